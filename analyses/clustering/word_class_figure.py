"""How word classes are drawn: a map with a slider of layers, and curves of their separation below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.clustering.layer_maps import add_maps, title
from layerscope.analyses.clustering.separation_curves import add_curves, place_of
from layerscope.theme import mark_layers, plain, themed

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
    return themed(_with_layers(figure, finding))


def _with_layers(figure: go.Figure, finding: WordClassFinding) -> go.Figure:
    """On the axis of the curves, and on the slider of the map."""
    table = finding.table
    lines, places = finding.curve("gdv"), place_of(finding)
    mark_layers(figure, lines["layer"], "x2", at=[places[site][0] for site in lines["site"]])
    maps = table[table["part"] == "map"].drop_duplicates("site")
    if len(maps):
        of_site = dict(zip(lines["site"], lines["layer"], strict=True))
        steps = [of_site.get(site) for site in maps["site"]]
        mark_layers(figure, steps, "slider", at=range(len(steps)))
    return figure
