"""How back-patching is drawn: success by source and target beside the control's, and the rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.back_patching_finding import (
    NOISE,
    OTHER,
    OWN,
    RIGHT,
    WRONG,
    chosen,
    shown_estimator,
)
from layerscope.theme import COLORS, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_COLORS = {OWN: COLORS["value"], OTHER: COLORS["control"], NOISE: COLORS["twin"]}
_NAMES = {OWN: "its own later state", OTHER: "state of another prompt", NOISE: "noise"}
_KINDS = {
    "any pair": "some pair,<br>the best for each",
    "fixed pair": "one pair,<br>fixed beforehand",
}
_MAP, _BARS = 300, 250
"""Heights of one row of heat maps, and of the bars."""


def draw(table: pd.DataFrame) -> go.Figure:
    """For each position a map of what pairs repair, beside the control's; below, the rates."""
    from plotly.subplots import make_subplots

    lines = table[table["estimator"] == shown_estimator(table)]
    group = WRONG if (lines["group"] == WRONG).any() else RIGHT
    lines = lines[lines["group"] == group]
    positions = list(dict.fromkeys(lines["position"]))
    states = [one for one in (OWN, OTHER) if (lines["states"] == one).any()]
    rows, height = len(positions) + 1, _MAP * len(positions) + _BARS + 120
    figure = make_subplots(
        rows=rows,
        cols=len(states),
        specs=[[{}] * len(states)] * len(positions) + [[{"colspan": len(states)}, *_rest(states)]],
        row_heights=[_MAP] * len(positions) + [_BARS],
        horizontal_spacing=0.12,
        vertical_spacing=95 / height,
        subplot_titles=[_title(p, s, positions) for p in positions for s in states],
    )
    top = float(chosen(lines, kind="pair")["value"].max()) or 1.0
    for row, position in enumerate(positions, 1):
        for column, one in enumerate(states, 1):
            part = chosen(lines, kind="pair", position=position, states=one)
            figure.add_trace(_map(part, one), row=row, col=column)
    for bar in _bars(lines, positions, group):
        figure.add_trace(bar, row=rows, col=1)
    _arrange(figure, lines, rows, len(states), top, group)
    figure.update_layout(height=height)
    return themed(figure)


def _rest(states: list[str]) -> list[None]:
    return [None] * (len(states) - 1)


def _title(position: str, states: str, positions: list[str]) -> str:
    where = f"at {plain(position)}: " if len(positions) > 1 else ""
    return f"{where}{_NAMES[states]}"


def _map(part: pd.DataFrame, states: str) -> Any:
    import plotly.graph_objects as go

    grid = part.pivot(index="source", columns="target", values="value")
    words = part.assign(words=[_hover(line) for _, line in part.iterrows()])
    hover = words.pivot(index="source", columns="target", values="words")
    return go.Heatmap(
        x=[int(x) for x in grid.columns],
        y=[int(y) for y in grid.index],
        z=grid.to_numpy(dtype=float),
        customdata=hover.to_numpy(),
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        name=_NAMES[states],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(line: pd.Series[Any]) -> str:
    return (
        f"<b>output of block {line['source']} into that of block {line['target']}</b><br>"
        f"right: {line['value']:.1%} ({line['ci_low']:.1%} to {line['ci_high']:.1%}) of "
        f"{line['n']:,} prompts<br>log probability of the answer: {line['logprob']:.2f} "
        f"(untouched {line['logprob_before']:.2f})<br>median rank {line['rank']:.0f}"
    )


def _bars(lines: pd.DataFrame, positions: list[str], group: str) -> list[Any]:
    """Horizontal bars with intervals; one colour for each kind of states."""
    import plotly.graph_objects as go

    kinds = _KINDS if group == WRONG else {"average pair": "average pair"}
    bars = []
    for states in (NOISE, OTHER, OWN):  # plotly stacks from below
        part = lines[lines["kind"].isin(kinds) & (lines["states"] == states)]
        if part.empty:
            continue
        part = part.iloc[::-1]
        bars.append(
            go.Bar(
                y=[_bar_name(line, kinds, positions) for _, line in part.iterrows()],
                x=part["value"],
                error_x={
                    "array": part["ci_high"] - part["value"],
                    "arrayminus": part["value"] - part["ci_low"],
                    "color": COLORS["baseline"],
                },
                orientation="h",
                name=_NAMES[states],
                legendrank={OWN: 1, OTHER: 2, NOISE: 3}[states],
                marker={"color": _COLORS[states]},
                customdata=part["n"],
                hovertemplate=f"{_NAMES[states]}: %{{x:.1%}} of %{{customdata}}<extra></extra>",
            )
        )
    return bars


def _bar_name(line: pd.Series[Any], kinds: dict[str, str], positions: list[str]) -> str:
    where = f"<br>at {plain(line['position'])}" if len(positions) > 1 else ""
    return kinds[line["kind"]] + where


def _arrange(
    figure: go.Figure, lines: pd.DataFrame, rows: int, columns: int, top: float, group: str
) -> None:
    right = "repaired" if group == WRONG else "still right"
    count = int(chosen(lines, kind="average pair")["n"].iloc[0])
    scale = {"cmin": 0, "cmax": top, "colorbar": {"tickformat": ".0%", "thickness": 12}}
    figure.update_layout(
        title=f"Share of the {count:,} prompts answered {group} that a pair leaves right"
        if group == RIGHT
        else f"Share of the {count:,} prompts answered wrong that come right",
        coloraxis=scale,
        barmode="group",
        legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0},
    )
    for row in range(1, rows):
        for column in range(1, columns + 1):
            figure.update_xaxes(title="into block", dtick=_step(lines), row=row, col=column)
            figure.update_yaxes(
                title="from block" if column == 1 else None, dtick=_step(lines), row=row, col=column
            )
    figure.update_xaxes(title=f"share {right}", range=[0, 1], tickformat=".0%", row=rows, col=1)
    figure.update_yaxes(automargin=True, row=rows, col=1)


def _step(lines: pd.DataFrame) -> int:
    return max(1, int(lines["source"].max() + 1) // 8)
