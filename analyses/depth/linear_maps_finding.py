"""The finding of `linear_maps`: a table by pair of layers, in words and as a heat map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.material.grids import bar_below
from layerscope.finding import Finding
from layerscope.wording import percent, place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class LinearMapsFinding(Finding):
    """How much of each layer an affine map from another model's layers leaves unexplained.

    Columns: ``source`` and ``target`` (sites), ``source_index`` and ``target_index`` (0 is
    `embed`, i + 1 is after block i), ``source_depth`` and ``target_depth`` (share of the blocks that have
    run), ``value`` (unexplained share of variance on held-out documents: 0 is exact, 1 is no
    better than the mean) with its interval, ``best`` (the best source of its target),
    ``baseline`` (from `embed`, which knows the token alone), ``twin`` (from the same layer of an
    untrained twin of the source), ``n``, ``n_groups``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which layers of two models hold the same, up to an affine map?"

    def answer(self) -> str:
        """Where the best sources lie, against the diagonal of equal relative depth."""
        best = self.best
        inner = best[best["target_index"] > 0]
        off = float((inner["source_depth"] - inner["target_depth"]).abs().mean())
        last = best.iloc[-1]
        text = (
            f"The best sources of the target's layers are, in order, {_listed(best['source_index'])} "
            f"(0 is embed); on average they are {off:.0%} of the depth away from the layer of equal "
            f"relative depth. The last layer is left unexplained by {last['value']:.3f}"
        )
        text += f" from {last['source']}, against {last['baseline']:.3f} from embed"
        if "twin" in self.table:
            rows = self.table[self.table["target_index"] == last["target_index"]]
            text += f" and {rows['twin'].min():.3f} from the best layer of an untrained twin"
        return f"{text}; {last['n']:,} rows in {last['n_groups']:,} held-out groups."

    def gist(self) -> str:
        """In one sentence."""
        last = self.best.iloc[-1]
        said = f"A linear map from {place(last['source'])} misses {percent(last['value'])} of the other model's last layer"
        against = [f"from the embeddings {percent(last['baseline'])}"]
        if "twin" in self.table:
            rows = self.table[self.table["target_index"] == last["target_index"]]
            against.append(f"from an untrained model {percent(rows['twin'].min())}")
        return f"{said}; {', '.join(against)}."

    @property
    def best(self) -> pd.DataFrame:
        """The line of the best source of each target, by target."""
        return self.table[self.table["best"]].sort_values("target_index", ignore_index=True)

    def figure(self) -> go.Figure:
        """Unexplained share by pair of layers, with the best sources and the diagonal."""
        import plotly.graph_objects as go

        from layerscope.theme import COLORS, mark_layers, themed

        grid = self.table.pivot(index="source_index", columns="target_index", values="value")
        hover = [[self._hover(i, j) for j in range(grid.shape[1])] for i in range(grid.shape[0])]
        best = self.best
        told = "%{customdata}<extra></extra>"
        figure = go.Figure(
            go.Heatmap(
                x=grid.columns,
                y=grid.index,
                z=grid,
                reversescale=True,
                customdata=hover,
                hovertemplate=told,
                colorbar=bar_below("unexplained share of variance", y=-0.18),
            )
        )
        figure.add_scatter(
            x=[0, grid.shape[1] - 1],
            y=[0, grid.shape[0] - 1],
            mode="lines",
            name="equal relative depth",
            line={"color": COLORS["control"], "dash": "dash", "width": 2},
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=best["target_index"],
            y=best["source_index"],
            mode="markers",
            name="best source",
            marker={"color": "#ffffff", "size": 10, "line": {"color": "#000", "width": 1.5}},
            customdata=[
                hover[i][j] for i, j in zip(best["source_index"], best["target_index"], strict=True)
            ],
            hovertemplate=told,
        )
        figure.update_layout(
            xaxis=_axis("layer of the target", grid.shape[1]),
            yaxis=_axis("layer of the source", grid.shape[0]),
        )
        for axis, index in (("x", grid.columns), ("y", grid.index)):
            mark_layers(figure, index.to_numpy() - 1, axis, at=map(int, index))  # 0 is embed
        return themed(figure)

    def _hover(self, i: int, j: int) -> str:
        rows = self.table
        line = rows[(rows["source_index"] == i) & (rows["target_index"] == j)].iloc[0]
        text = f"<b>{line['source']}</b> to <b>{line['target']}</b><br>"
        text += f"unexplained {line['value']:.3g}"
        if line["ci_low"] == line["ci_low"]:
            text += f" ({line['ci_low']:.3g} to {line['ci_high']:.3g})"
        if "twin" in rows:
            text += f"<br>from an untrained twin {line['twin']:.3g}"
        return f"{text}<br>from embed {line['baseline']:.3g}"


def _axis(title: str, count: int) -> dict[str, object]:
    step = -(-count // 16)
    ticks = list(range(0, count, step))
    return {
        "title": title,
        "tickvals": ticks,
        "ticktext": ["embed" if i == 0 else str(i - 1) for i in ticks],
        "showgrid": False,
    }


def _listed(numbers: pd.Series[int]) -> str:
    return ", ".join(str(n) for n in numbers)
