"""How an AST probe is drawn: F1 by layer, of all constituents and of larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.probes.trees.layer_lines import axis, layer_lines
from layerscope.theme import mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_LINES: dict[str, tuple[str, str, str]] = {
    "baseline": ("no model", "baseline", "dot"),
    "control": ("shuffled words", "control", "dash"),
    "twin": ("untrained twin", "twin", "dashdot"),
}


def two_curves(every: pd.DataFrame, inner: pd.DataFrame) -> go.Figure:
    """All constituents on top; below, those of two words or more."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=["All constituents", "Constituents of two words or more"],
    )
    for row, lines in enumerate((every, inner), 1):
        before = len(figure.data)
        layer_lines(figure, lines, _LINES, row=row)
        axis(figure, lines, row=row)
        figure.update_yaxes(title="F1 on held-out texts", rangemode="tozero", row=row, col=1)
        if row > 1:
            for trace in figure.data[before:]:
                trace.showlegend = False
    figure.update_xaxes(title="", row=1, col=1)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    name = str(every["label"].iloc[0])
    figure.update_layout(
        title=f"{plain(name[0].upper() + name[1:])}s by layer",
        height=640,
        hovermode="closest",
        margin={"t": 120},
        legend={"y": 1.06},
    )
    return themed(mark_layers(figure, every["layer"]))
