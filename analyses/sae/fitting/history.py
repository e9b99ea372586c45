"""What happened while SAEs were trained, as a finding."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Self

from layerscope.analyses.sae.fitting.plan import Plan
from layerscope.finding import Finding, Provenance
from layerscope.wording import percent, rounded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PANELS = {
    "explained_variance": "explained variance",
    "l0": "L0: active latents per row",
    "dead_share": "dead latents, share",
}


@dataclass(frozen=True, repr=False)
class TrainingFinding(Finding):
    """Curves of a training; one line of the table per SAE (`member`) and moment.

    Columns: member, name, site, target, architecture, latents, asked_k (or another option of the
    architecture), step, tokens, loss (what is
    minimised, in scaled units), error (its reconstruction term), explained_variance (of the
    batches since the last line), l0, dead_share, rate, seconds.
    """

    question: ClassVar[str] = "How did the training of the sparse autoencoder go?"

    def answer(self) -> str:
        said = [self._member(rows) for _, rows in self.table.groupby("member", sort=True)]
        if len(said) > 3:
            return "; ".join(said[:2]) + f"; and {len(said) - 2} more."
        return "; ".join(said) + "."

    def gist(self) -> str:
        """In one sentence."""
        last = self.table.groupby("member", sort=True).tail(1)
        best = last.iloc[int(last["explained_variance"].argmax())]
        who = "The dictionary" if len(last) == 1 else f"The best of {len(last)} dictionaries"
        return (
            f"{who} explains {percent(best['explained_variance'])} of the variance with "
            f"{rounded(best['l0'])} of {int(best['latents']):,} features at a time; {percent(best['dead_share'])} never fire."
        )

    def of(self, member: int) -> Self:
        """The history of one SAE of the group."""
        rows = self.table[self.table["member"] == member].reset_index(drop=True)
        return replace(self, table=rows)

    def _member(self, rows: pd.DataFrame) -> str:
        last = rows.iloc[-1]
        return (
            f"{last['name']}: {last.tokens:,} rows, explained variance "
            f"{last.explained_variance:.3f} at {last.l0:.1f} active latents per row, "
            f"{last.dead_share:.1%} of {last.latents:,} latents dead"
        )

    def figure(self) -> go.Figure:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        from layerscope.theme import SEQUENCE, themed

        figure = make_subplots(rows=1, cols=len(PANELS), subplot_titles=list(PANELS.values()))
        for place, (member, rows) in enumerate(self.table.groupby("member", sort=True)):
            color = SEQUENCE[place % len(SEQUENCE)]
            for column, name in enumerate(PANELS, start=1):
                figure.add_trace(
                    go.Scatter(
                        x=rows["tokens"],
                        y=rows[name],
                        mode="lines",
                        line={"color": color},
                        name=str(rows["name"].iloc[0]),
                        legendgroup=str(member),
                        showlegend=column == 1 and self.table["member"].nunique() > 1,
                        hovertemplate="%{x:,} rows: %{y:.3f}",
                    ),
                    row=1,
                    col=column,
                )
        figure.update_xaxes(title="rows seen", rangemode="tozero")
        figure.update_yaxes(rangemode="tozero")
        # A share of some hundredths must not fill the panel.
        most = max(0.05, 1.1 * float(self.table["dead_share"].max()))
        figure.update_yaxes(range=(-0.02 * most, most), tickformat=".0%", col=len(PANELS))
        figure.update_annotations(font_size=13)
        figure.update_layout(
            height=360,
            legend={"yref": "container", "y": 0.98, "yanchor": "top"},
            margin={"t": 90 if self.table["member"].nunique() > 1 else 44},
        )
        return themed(figure)


def finding(
    plan: Plan,
    lines: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Any],
    mixing: float,
    *,
    resumed: int,
    started: float,
) -> TrainingFinding:
    """The lines that the loop kept, as a finding.

    Args:
        plan: What was trained.
        lines: One for each SAE and moment.
        rows: Where the rows came from.
        mixing: Texts that a batch mixes, see `Rows.effective_groups`.
        resumed: Steps that an earlier process had done.
        started: When the call began, by `time.perf_counter`.
    """
    import pandas as pd

    who = pd.DataFrame(
        {
            "member": range(plan.group),
            "name": plan.names(),
            "site": [",".join(sites) for sites in plan.inputs],
            "target": [",".join(sites) for sites in plan.targets],
            "architecture": plan.architecture.name,
            "latents": plan.latents,
            **{f"asked_{name}": list(values) for name, values in plan.option.items()},
        }
    )
    return TrainingFinding(
        table=who.merge(pd.DataFrame(lines), on="member"),
        provenance=Provenance(
            model=str(rows.get("model", "")),
            data=str(rows.get("data", "")),
            store_key=rows.get("store_key"),
            parameters=plan.as_json({}),
            seed=plan.order,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=_notes(plan, mixing, resumed),
    )


def _notes(plan: Plan, mixing: float, resumed: int) -> tuple[str, ...]:
    notes = [
        (
            "explained variance and L0 are of the batches that were being trained on; evaluate() "
            "measures the finished SAE"
        )
    ]
    if isfinite(mixing):
        notes.append(
            f"a batch of {plan.batch:,} rows mixes the rows of {mixing:,.0f} texts "
            "(1 / P(two rows of a batch come from one text))"
        )
    if resumed:
        notes.append(f"continued after {resumed:,} of {plan.steps:,} steps")
    return tuple(notes)
