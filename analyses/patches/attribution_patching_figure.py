"""Estimated maps beside a check: every true patch against its estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.patches.patching_figure import grid, hover, panels_of
from layerscope.theme import COLORS, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def maps_and_checks(table: pd.DataFrame) -> go.Figure:
    """The maps of `patching`, estimated; the last panel holds true patches against estimates."""
    checked = table.dropna(subset=["exact"])
    figure, left = grid(panels_of(table), ["check: true patches"] if len(checked) else [])
    if not len(checked):
        return themed(figure)
    ends = [
        min(*checked["value"], *checked["exact"], 0.0),
        max(*checked["value"], *checked["exact"], 1.0),
    ]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": COLORS["baseline"], "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
        **left[0],
    )
    figure.add_scatter(
        x=checked["value"],
        y=checked["exact"],
        mode="markers",
        marker={"color": COLORS["value"], "size": 6},
        text=[f"{hover(row)}<br>true patch: {row.exact:.1%}" for row in checked.itertuples()],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        **left[0],
    )
    figure.update_xaxes(title="estimated by the gradient", tickformat=".0%", **left[0])
    figure.update_yaxes(title="patched for real", tickformat=".0%", side="right", **left[0])
    return themed(figure)
