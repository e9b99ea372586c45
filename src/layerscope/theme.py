"""How layerscope's figures look: one template in a light and a dark dress, and named colours.

Colours say what a mark *is*, not which series it happens to be, so the control of one figure is
the control of every other. They follow Okabe and Ito's colour-blind safe set, restricted to the
hues that keep a contrast of 3:1 on both backgrounds; dashes repeat the message without colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLORS = {
    "value": "#0072b2",
    "control": "#d55e00",
    "baseline": "#7d7d7d",
    "twin": "#c0699a",
    "good": "#009e73",
    "bad": "#d55e00",
    "other": "#7d7d7d",
    "noise": "#5b5ea6",
    "block": "#0072b2",
    "attention": "#9a7d0a",
    "mlp": "#009e73",
    "embed": "#5b5ea6",
}
"""What a mark stands for -> its colour, on light and dark backgrounds alike."""

DASHES = {"value": "solid", "control": "dash", "baseline": "dot", "twin": "dashdot"}
"""The same meanings as line styles, for print and for eyes that do not tell the hues apart."""

SEQUENCE = ("#0072b2", "#d55e00", "#009e73", "#c0699a", "#7d7d7d", "#9a7d0a", "#5b5ea6", "#3c8dbc")
"""For series without a fixed meaning, in this order."""

SEQUENTIAL = ("#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838")
"""Colour scale of amounts (cividis): equal steps look equal, to every eye and in grey."""

DIVERGING = ("#d55e00", "#f4f4f2", "#0072b2")
"""Colour scale of differences; put its middle at zero (`zmid=0`)."""

CONFIG: dict[str, Any] = {
    "responsive": True,
    "displaylogo": False,
    # Plotly's "share" button uploads the figure to a company's server; a result is not ours to send.
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}
"""Plotly's behaviour around the figure, for `figure.show(config=CONFIG)` and the report."""

FONT = "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

SURFACES = {
    "light": {
        "paper": "#ffffff",
        "ink": "#22262b",
        "muted": "#5a616a",
        "grid": "#e6e7e9",
        "nothing": DIVERGING[1],
    },
    "dark": {
        "paper": "#15181c",
        "ink": "#e4e6e8",
        "muted": "#a2a9b1",
        "grid": "#2e333a",
        "nothing": "#23272d",
    },
}
"""Background, text, secondary text, grid lines of each dress, and its middle of a diverging scale."""


def themed(figure: go.Figure, *, dark: bool = False) -> go.Figure:
    """A copy of the figure in layerscope's template; explicit settings of the figure win."""
    import plotly.graph_objects as go

    dressed = go.Figure(figure)
    # Assigned, not updated: the latter would mix it into plotly's own template, and takes longer.
    dressed.layout.template = template(dark=dark)
    return dressed


def template(*, dark: bool = False) -> dict[str, Any]:
    """The plotly template as plain data, ready for JSON."""
    colors = SURFACES["dark" if dark else "light"]
    return {
        # Labels keep off bars that begin at the axis.
        "layout": _frame(colors)
        | {"xaxis": _axis(colors), "yaxis": _axis(colors) | {"ticklabelstandoff": 4}},
        "data": {
            # Without autocolorscale a heat map ignores the template's scales.
            "heatmap": [
                {"autocolorscale": True, "colorbar": _colorbar(colors), "hoverongaps": False}
            ],
            "scatter": [{"line": {"width": 2.25}, "marker": {"size": 7}}],
            "bar": [{"marker": {"line": {"width": 0}}} | _bar_text(dark)],
        },
    }


def mark_layers(
    figure: go.Figure, layers: Iterable[Any], *axes: str, at: Iterable[float] | None = None
) -> go.Figure:
    """Say where a figure's layers are, so that a report can show one layer in all its figures.

    It is kept in `figure.layout.meta["layers"]`: for each axis ``[[layer, place], ...]``.

    Args:
        figure: Is changed, and returned.
        layers: Block numbers, -1 for `embed`, as in a table's column ``layer``; repeats do no harm.
            What has no layer (NaN) is left out; without `at` it means that nothing is marked, as
            figures then count their sites instead.
        axes: Such as ``"x"`` or ``"y2"``, or ``"slider"``; none given: every x axis of the figure.
        at: Coordinates in the same order; None: the block numbers themselves. Categories and steps
            of a slider are counted from 0.
    """
    import pandas as pd

    numbers = list(layers)
    places = numbers if at is None else list(at)
    known = [not pd.isna(number) for number in numbers]
    if at is None and not all(known):
        return figure
    pairs = {
        (int(number), float(place))
        for number, place, is_layer in zip(numbers, places, known, strict=True)
        if is_layer
    }
    meta = dict(figure.layout.meta or {})
    every = axes or [axis.plotly_name.replace("axis", "") for axis in figure.select_xaxes()]
    marks = {axis: [list(pair) for pair in sorted(pairs)] for axis in every or ["x"]}
    return figure.update_layout(meta=meta | {"layers": meta.get("layers", {}) | marks})


def faded(color: str, opacity: float) -> str:
    """The colour `#rrggbb` as an `rgba()` of the given opacity: the fill of an interval.

    >>> faded("#0072b2", 0.2)
    'rgba(0, 114, 178, 0.2)'
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def band(x: Any, low: Any, high: Any, color: str, opacity: float = 0.18) -> dict[str, Any]:
    """Arguments of the `go.Scatter` that fills an interval around a curve: the same in every figure."""
    return {
        "x": [*x, *list(x)[::-1]],
        "y": [*high, *list(low)[::-1]],
        "fill": "toself",
        "fillcolor": faded(color, opacity),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def plain(text: object) -> str:
    """Text as plotly must be given it to be drawn as written.

    Plotly reads `<b>` or `<br>` in labels and hovers as markup, and tokens such as `<s>` or
    `<br>` are ordinary data here.

    >>> plain("<br>")
    '&lt;br&gt;'
    """
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _frame(colors: dict[str, str]) -> dict[str, Any]:
    title = {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 16}, "automargin": True}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}}
    return {
        "font": {"family": FONT, "size": 13, "color": colors["ink"]},
        "title": title,
        "paper_bgcolor": colors["paper"],
        "plot_bgcolor": colors["paper"],
        "colorway": list(SEQUENCE),
        "colorscale": {
            "sequential": _stops(SEQUENTIAL),
            "sequentialminus": _stops(SEQUENTIAL[::-1]),
            "diverging": _stops((DIVERGING[0], colors["nothing"], DIVERGING[2])),
        },
        "coloraxis": {"autocolorscale": True, "colorbar": _colorbar(colors)},
        "margin": {"l": 56, "r": 20, "t": 44, "b": 52},
        "legend": legend,
        # Words that would shrink below reading size are left to the hover.
        "uniformtext": {"minsize": 11, "mode": "hide"},
        "hoverlabel": {
            "bgcolor": colors["paper"],
            "bordercolor": colors["muted"],
            "font": {"family": FONT, "size": 13, "color": colors["ink"]},
            "align": "left",
        },
        # Plotly paints the chosen button near white, whatever the page: the words must be dark.
        "updatemenudefaults": {
            "bgcolor": "#d5d8dc",
            "font": {"color": "#22262b", "size": 12},
            "bordercolor": "#7d7d7d",
        },
        "modebar": {
            "bgcolor": "rgba(0, 0, 0, 0)",
            "color": colors["muted"],
            "activecolor": colors["ink"],
        },
    }


def _stops(colors: tuple[str, ...]) -> list[list[object]]:
    return [[i / (len(colors) - 1), color] for i, color in enumerate(colors)]


def _axis(colors: dict[str, str]) -> dict[str, Any]:
    return {
        "gridcolor": colors["grid"],
        "linecolor": colors["grid"],
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 13}},
        "tickfont": {"color": colors["muted"]},
    }


def _bar_text(dark: bool) -> dict[str, Any]:
    """Plotly picks black or white as if every background were white; in the dark it guesses wrong."""
    return {"insidetextfont": {"color": SURFACES["dark"]["ink"]}} if dark else {}


def _colorbar(colors: dict[str, str]) -> dict[str, Any]:
    return {
        "outlinewidth": 0,
        "thickness": 12,
        "tickfont": {"color": colors["muted"]},
        "title": {"font": {"size": 13}},  # plotly's own is larger than that of the axes
    }
