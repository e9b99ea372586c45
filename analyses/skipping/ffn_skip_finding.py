"""The finding of `ffn_skip`, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import percent, rounded, spoken

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class FfnSkipFinding(Finding):
    """Loss added when tokens skip MLPs, for each threshold, beside as many skipped at random.

    Columns: ``threshold`` (cosine from which on MLPs are skipped), ``share`` (of all MLPs that are
    skipped, 0 to 1), ``value`` (loss added, nats/token) with ``ci_low`` and ``ci_high``, ``control``
    (the same for as many MLPs at random), ``n``, ``n_groups``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "How many MLPs can tokens do without?"

    def answer(self) -> str:
        """The largest share that costs little, and what as many at random cost."""
        table = self.table
        mild = table[table["value"] < 0.1]
        line = mild.iloc[int(mild["share"].argmax())] if len(mild) else None
        if line is None or not line["share"]:
            line = table.iloc[int(table["value"].argmin())]
        spread = spoken(line["ci_low"], line["ci_high"], ".3f")
        return (
            f"{line['share']:.0%} of the MLPs can be skipped for {line['value']:+.3f} "
            f"nats/token{spread}, at a threshold of "
            f"{line['threshold']:g}; as many at random cost {line['control']:+.3f}."
        )

    def gist(self) -> str:
        """In one sentence."""
        table = self.table
        mild = table[table["value"] < 0.1]
        line = mild.iloc[int(mild["share"].argmax())] if len(mild) else None
        if line is None or not line["share"]:
            line = table.iloc[int(table["value"].argmin())]
        if not line["share"]:
            return "No MLP can be skipped at any of these thresholds."
        cost = f"{percent(line['share'])} of the MLPs can be skipped for {rounded(line['value'])} nats a token"
        if line["value"] < line["control"]:
            return f"{cost}; as many at random cost {rounded(line['control'])}."
        return f"{cost}, no better than as many at random: {rounded(line['control'])}."

    def figure(self) -> go.Figure:
        """Loss added against the share of MLPs skipped, for the policy and its control."""
        import plotly.graph_objects as go

        from layerscope.theme import COLORS, DASHES, band, themed

        table = self.table.sort_values("share")
        figure = go.Figure()
        if len(table) > 1 and table["ci_low"].notna().all():
            ends = table["ci_low"], table["ci_high"]
            figure.add_scatter(**band(table["share"], *ends, COLORS["value"]))
        for column, name in (("control", "control: as many at random"), ("value", "policy")):
            figure.add_scatter(
                x=table["share"],
                y=table[column],
                name=name,
                mode="lines+markers",
                line={"color": COLORS[column], "dash": DASHES[column]},
                customdata=table["threshold"],
                hovertemplate=f"{name}<br>threshold %{{customdata}}: %{{x:.0%}} skipped, "
                "%{y:+.3f} nats/token<extra></extra>",
            )
        figure.update_layout(hovermode="closest")
        figure.update_xaxes(title="share of MLPs skipped", tickformat=".0%")
        figure.update_yaxes(title="loss added, nats per token")
        return themed(figure)
