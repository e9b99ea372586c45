"""How `layer_skip` is drawn: curves of what the output loses, and a map of block upon block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENCE, SEQUENTIAL, band, mark_layers, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.skipping.layer_skip_finding import SkipFinding

_WORDS = {"skip": "skipped", "repeat": "run twice", "swap": "swapped with the next"}
_UNITS = {"loss": "nats per token", "output": "distance"}
_MAPS = {
    ("later", "all", "value"): "passed on by the blocks between",
    ("direct", "all", "value"): "read directly",
    ("later", "future", "value"): "passed on, later tokens only",
    ("direct", "future", "value"): "read directly, later tokens only",
    ("later", "all", "max"): "passed on, the most at any token",
}

MOST_TOLD = 64
"""Blocks up to which a cell's hover has its interval too; a report takes 1 MB of figure."""


def curves_and_map(finding: SkipFinding) -> go.Figure:
    """Loss, then distance of probabilities, by block; below them block upon later block."""
    from plotly.subplots import make_subplots

    table = finding.table
    done = _WORDS[str(table["change"].iloc[0])]
    panels = [m for m in ("loss", "output") if (table["measure"] == m).any()]
    titles = {
        "loss": f"Loss added when the block is {done}",
        "output": "How far next-token probabilities move (0 to 1.41)",
    }
    rows = len(panels) + 1
    figure = make_subplots(
        rows=rows,
        cols=1,
        vertical_spacing=0.11,
        row_heights=[0.9] * len(panels) + [1.5],
        subplot_titles=[
            *(titles[m] for m in panels),
            "How much later blocks change what they add",
        ],
    )
    for row, measure in enumerate(panels, 1):
        _curves(figure, table[table["measure"] == measure], row)
        figure.update_xaxes(title=f"block that is {done}", dtick=_tick(table), row=row, col=1)
        figure.update_yaxes(title=_UNITS[measure], row=row, col=1)
    _map(figure, finding, rows, done)
    figure.update_layout(
        title="",
        height=250 * len(panels) + 440,
        hovermode="closest",
        margin={"t": 84},
        legend={"y": 1.03},
    )
    figure.update_annotations(x=0, xanchor="left", font_size=14)
    down = f"y{rows}"
    return themed(mark_layers(mark_layers(figure, table["layer"]), table["layer"], down))


def _curves(figure: go.Figure, lines: pd.DataFrame, row: int) -> None:
    for tokens, color, dash, name in (
        ("all", COLORS["value"], "solid", "all tokens"),
        ("future", SEQUENCE[2], "dash", "only tokens after the change"),
    ):
        part = lines[lines["tokens"] == tokens].sort_values("layer")
        if not len(part):
            continue
        _band(figure, part, color, row)
        if tokens == "all" and "twin" in part:
            figure.add_scatter(
                x=part["layer"],
                y=part["twin"],
                name="untrained twin",
                showlegend=row == 1,
                legendrank=1001,
                mode="lines+markers",
                line={"color": COLORS["twin"], "dash": DASHES["twin"]},
                marker={"size": 4},
                hovertemplate="untrained twin, block %{x}: %{y:.4g}<extra></extra>",
                row=row,
                col=1,
            )
        figure.add_scatter(
            x=part["layer"],
            y=part["value"],
            name=name,
            showlegend=row == 1,
            mode="lines+markers",
            line={"color": color, "dash": dash},
            marker={"size": 7 if tokens == "all" else 4},
            customdata=[_hover(line, name) for _, line in part.iterrows()],
            hovertemplate="%{customdata}<extra></extra>",
            row=row,
            col=1,
        )


def _hover(line: pd.Series[Any], name: str) -> str:
    return (
        f"<b>block {line['layer']}</b>, {name}<br>{line['value']:.4g} {line['unit']}{spoken(line['ci_low'], line['ci_high'], '.4g')}<br>the most at any token "
        f"{line['max']:.4g}<br>n = {line['n']:,} tokens in {line['n_groups']:,} groups"
        f"<br>noise floor {line['noise']:.1g}"
    )


def _band(figure: go.Figure, part: pd.DataFrame, color: str, row: int) -> None:
    if len(part) < 2 or part["ci_low"].isna().any():
        return
    x = list(part["layer"])
    figure.add_scatter(
        **band(x, part["ci_low"], part["ci_high"], color),
        row=row,
        col=1,
    )


def _map(figure: go.Figure, finding: SkipFinding, row: int, done: str) -> None:
    shown = [
        key
        for key in _MAPS
        if ((finding.table["measure"] == key[0]) & (finding.table["tokens"] == key[1])).any()
    ]
    first = len(figure.data)
    for number, key in enumerate(shown):
        figure.add_trace(_cells(finding, key, visible=number == 0), row=row, col=1)
    figure.update_xaxes(title=f"block that is {done}", dtick=_tick(finding.table), row=row, col=1)
    figure.update_yaxes(title="later block", dtick=_tick(finding.table), row=row, col=1)
    if len(shown) > 1:
        floor = figure.layout[f"yaxis{row}" if row > 1 else "yaxis"].domain[0]
        figure.update_layout(updatemenus=[_menu(shown, first, floor)])


def _menu(shown: list[tuple[str, str, str]], first: int, floor: float) -> dict[str, Any]:
    def visible(chosen: int) -> list[Any]:
        return [True] * first + [number == chosen for number in range(len(shown))]

    buttons = [
        {"label": _MAPS[key], "method": "restyle", "args": [{"visible": visible(number)}]}
        for number, key in enumerate(shown)
    ]
    return {
        "buttons": buttons,
        "direction": "up",  # the corner below the diagonal is empty
        "x": 1.0,
        "xanchor": "right",
        "y": floor,
        "yanchor": "bottom",
    }


def _cells(finding: SkipFinding, key: tuple[str, str, str], *, visible: bool) -> go.Heatmap:
    import numpy as np
    import plotly.graph_objects as go

    measure, tokens, value = key
    cells = finding.matrix(measure, tokens, value)
    way = "read directly" if measure == "direct" else "passed on by all blocks between"
    hover = f"<b>block %{{x}} changed, block %{{y}} answers</b><br>{way}: what it adds changes by "
    told = None
    if len(cells) <= MOST_TOLD:
        columns = [
            finding.matrix(measure, tokens, n) for n in ("value", "ci_low", "ci_high", "max")
        ]
        told = np.stack([x.to_numpy(dtype=np.float32).T for x in columns], -1)
        hover += (
            "%{customdata[0]:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})<br>the most at any "
            "token %{customdata[3]:.1%}"
        )
    else:
        hover += "%{z:.1%}"
    return go.Heatmap(
        z=cells.to_numpy(dtype=np.float32).T,
        x=list(cells.index),
        y=list(cells.columns),
        customdata=told,
        hovertemplate=f"{hover}<extra></extra>",
        colorscale=list(SEQUENTIAL),
        autocolorscale=False,
        zmin=0,
        zmax=1,
        colorbar={
            "title": {"text": "change", "side": "right"},
            "tickformat": ".0%",
            "len": 0.4,
            "y": 0.2,
        },
        visible=visible,
        xgap=1,
        ygap=1,
        name=_MAPS[key],
    )


def _tick(table: pd.DataFrame) -> int:
    return max(1, round(float(table["layer"].max() + 1) / 16))
