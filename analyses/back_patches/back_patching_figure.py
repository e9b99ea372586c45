"""How back-patching is drawn: the rates, and success by source and target beside the control's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.back_patches.back_patching_finding import (
    NOISE,
    OTHER,
    OWN,
    RIGHT,
    WRONG,
    chosen,
    shown_estimator,
)
from layerscope.theme import COLORS, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_COLORS = {OWN: COLORS["value"], OTHER: COLORS["control"], NOISE: COLORS["noise"]}
_NAMES = {OWN: "its own later state", OTHER: "another prompt's state", NOISE: "noise"}
_KINDS = {
    "any pair": "best pair for each",
    "fixed pair": "one fixed pair",
    "average pair": "average pair",
}
_MAP, _BAR, _GAP, _TOP, _BOTTOM = 210, 52, 100, 108, 56
"""Pixels: one row of heat maps, one group of bars, between rows, above all and below all."""


def draw(table: pd.DataFrame) -> go.Figure:
    """The rates with their intervals; below, for each position, what pairs repair and the control."""
    from plotly.subplots import make_subplots

    lines = table[table["estimator"] == shown_estimator(table)]
    group = WRONG if (lines["group"] == WRONG).any() else RIGHT
    kinds = ("any pair", "fixed pair") if group == WRONG else ("average pair",)
    lines = lines[lines["group"] == group]
    positions = list(dict.fromkeys(lines["position"]))
    states = [one for one in (OWN, OTHER) if (lines["states"] == one).any()]
    rates = lines[lines["kind"].isin(kinds)]
    bars = 30 + _BAR * len(rates[["kind", "position"]].drop_duplicates())
    inner = (_MAP + _GAP) * len(positions) + bars
    figure = make_subplots(
        rows=len(positions) + 1,
        cols=len(states),
        specs=[
            [{"colspan": len(states)}, *[None] * (len(states) - 1)],
            *([[{}] * len(states)] * len(positions)),
        ],
        row_heights=[bars] + [_MAP] * len(positions),
        horizontal_spacing=0.12,
        vertical_spacing=_GAP / inner,
        subplot_titles=["", *(f"{_NAMES[s]}<br>at {plain(p)}" for p in positions for s in states)],
    )
    for bar in _bars(rates, positions):
        figure.add_trace(bar, row=1, col=1)
    for row, position in enumerate(positions, 2):
        for column, one in enumerate(states, 1):
            part = chosen(lines, kind="pair", position=position, states=one)
            figure.add_trace(_map(part, one), row=row, col=column)
    _arrange(figure, lines, inner)
    maps = range(2, 2 + len(positions) * len(states))
    mark_layers(figure, table["target"].dropna(), *(f"x{number}" for number in maps))
    mark_layers(figure, table["source"].dropna(), *(f"y{number}" for number in maps))
    return themed(figure)


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


def _bars(rates: pd.DataFrame, positions: list[str]) -> list[Any]:
    """Horizontal bars with intervals; one colour for each kind of states."""
    import plotly.graph_objects as go

    bars = []
    for states in (NOISE, OTHER, OWN):  # plotly stacks from below
        part = chosen(rates, states=states).iloc[::-1]
        if part.empty:
            continue
        bars.append(
            go.Bar(
                y=[_bar_name(line, positions) for _, line in part.iterrows()],
                x=part["value"],
                error_x={
                    "array": part["ci_high"] - part["value"],
                    "arrayminus": part["value"] - part["ci_low"],
                    "color": COLORS["baseline"],  # seen on light and dark alike
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


def _bar_name(line: pd.Series[Any], positions: list[str]) -> str:
    where = f"<br>at {plain(line['position'])}" if len(positions) > 1 else ""
    return _KINDS[line["kind"]] + where


def _arrange(figure: go.Figure, lines: pd.DataFrame, inner: int) -> None:
    """Titles, axes and colour bar; `inner` is the height of the rows in pixels."""
    wrong = lines["group"].iloc[0] == WRONG
    count = int(chosen(lines, kind="average pair")["n"].iloc[0])
    cells = chosen(lines, kind="pair")
    (bars, *across), (_, *up) = list(figure.select_xaxes()), list(figure.select_yaxes())
    height = inner + _TOP + _BOTTOM
    title = f"{count:,} wrong answers: share repaired" if wrong else f"{count:,} right ones: kept"
    figure.update_annotations(font_size=13)
    figure.update_layout(
        title={"text": title, "y": 1 - 12 / height, "yanchor": "top", "yref": "container"},
        height=height,
        margin={"t": _TOP, "b": _BOTTOM},
        barmode="group",
        bargap=0.3,
        legend={"y": 1 + 6 / inner},
        coloraxis={
            "cmin": 0,
            "cmax": float(cells["value"].max()) or 1.0,
            "colorbar": {
                "title": {"text": "share repaired", "side": "right"},
                "tickformat": ".0%",
                "y": 0,
                "yanchor": "bottom",
                "len": max(axis.domain[1] for axis in up),
            },
        },
    )
    step = max(1, int(cells["source"].max() + 1) // 8)
    for x, y in zip(across, up, strict=True):
        x.update(title={"text": "into block", "standoff": 4}, dtick=step, showgrid=False)
        y.update(title="from block", dtick=step, showgrid=False)
    bars.update(title="share that comes right" if wrong else "share that stays right")
    bars.update(range=[0, 1], tickformat=".0%")
