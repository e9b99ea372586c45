"""Curves over layers with their intervals, as figures of several panels are made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from layerscope.theme import band

if TYPE_CHECKING:
    import pandas as pd

Hover = Callable[["pd.Series[Any]", str, str], str]
"""Text for a line of the table, the drawn column, and the name of the curve."""


def curve(
    lines: pd.DataFrame, column: str, name: str, color: str, dash: str, hover: Hover, *, named: bool
) -> dict[str, Any]:
    """Arguments of the `go.Scatter` that draws a column by layer; `named`: it is in the legend."""
    return {
        "x": lines["layer"],
        "y": lines[column],
        "name": name,
        "legendgroup": name,  # one click hides it in every panel
        "showlegend": named,
        "legendrank": 2000 if column == "twin" else 1000,
        "mode": "lines+markers",
        "line": {"color": color, "dash": dash},
        "marker": {"size": 6 if column == "value" else 4},
        "customdata": [hover(line, column, name) for _, line in lines.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def interval(lines: pd.DataFrame, low: str, high: str, color: str) -> list[Any]:
    """The band between two columns; none where there is no interval."""
    import plotly.graph_objects as go

    if not lines[low].notna().all():
        return []
    return [go.Scatter(**band(lines["layer"], lines[low], lines[high], color))]
