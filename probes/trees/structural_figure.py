"""How a structural probe is drawn: one score by layer with its controls, and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.probes.trees.arcs import draw_arcs
from layerscope.probes.trees.layer_lines import axis, layer_lines
from layerscope.theme import mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

TITLES = {
    "uuas": "edges found (UUAS)",
    "dspr": "rank correlation of distances (DSpr)",
    "root": "roots found",
    "nspr": "rank correlation of depths (NSpr)",
}
_LINES: dict[str, tuple[str, str, str]] = {
    "baseline": ("chain of neighbours", "baseline", "dot"),
    "identity": ("no training", "baseline", "longdash"),
    "control": ("control trees", "control", "dash"),
    "twin": ("untrained twin", "twin", "dashdot"),
}


def curves_and_arcs(lines: pd.DataFrame, words: pd.DataFrame) -> go.Figure:
    """The score on top, the sentence below."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, row_heights=[0.55, 0.45], vertical_spacing=0.2)
    layer_lines(figure, lines, _LINES, row=1)
    axis(figure, lines, row=1)
    measure = str(lines["measure"].iloc[0])
    figure.update_yaxes(title=TITLES[measure], rangemode="tozero", row=1, col=1)
    draw_arcs(figure, words.sort_values("position"), row=2)
    figure.add_annotation(**_caption(words))
    figure.update_layout(
        title="Dependency trees by layer",
        height=780,
        hovermode="closest",
        margin={"t": 110},
        legend2={"orientation": "h", "x": 0, "y": 0.36, "yanchor": "bottom"},
    )
    return themed(mark_layers(figure, lines["layer"], "x"))


def _caption(words: pd.DataFrame) -> dict[str, Any]:
    site = plain(words["site"].iloc[0])
    return {
        "text": f"A typical sentence at {site}:<br>gold tree above, found tree below",
        "x": 0,
        "y": 0.425,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "align": "left",
        "showarrow": False,
        "font": {"size": 13},
    }
