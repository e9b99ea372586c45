"""How word classes are drawn: a map with a slider of layers, and curves of their separation below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.clustering.layer_maps import add_maps, title
from layerscope.analyses.clustering.separation_curves import add_curves
from layerscope.theme import plain, themed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from layerscope.analyses.clustering.word_class_finding import WordClassFinding

CURVES = (0.0, 0.21)
MAP = (0.455, 1.0)
"""Heights of the two panels, as shares of the figure; the slider and a legend lie between them."""


def maps_and_curves(finding: WordClassFinding) -> go.Figure:
    """The map above, the curves below; only the curves where there are no maps."""
    import plotly.graph_objects as go

    label = str(finding.table["label"].iloc[0])
    mapped = bool((finding.table["part"] == "map").any())
    figure = go.Figure()
    add_curves(figure, finding, within=CURVES if mapped else (0.0, 1.0))
    if mapped:
        add_maps(figure, finding, within=MAP)
    figure.update_layout(
        title={
            "text": title(label, finding.kinds[0])
            if mapped
            else f"Hidden states by {plain(label)}, layer by layer",
            "automargin": False,
            "y": 0.99,
        },
        height=1080 if mapped else 470,
        hovermode="closest",
        margin={"t": 160 if mapped else 120, "b": 52},
    )
    return themed(figure)
