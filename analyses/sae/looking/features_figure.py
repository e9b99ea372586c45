"""The map of a dictionary's directions, and what stands beside each point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.clustering.class_colours import marks
from layerscope.analyses.material.pieces import shown
from layerscope.analyses.sae.looking.features_finding import told
from layerscope.analyses.sae.looking.words import words_of
from layerscope.theme import COLORS, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CLASSES = 10
"""Classes that have a colour of their own; the others share grey."""
DEAD, NONE, OTHER = "never fires", "no class", "other classes"
RING = 8
"""How much wider than its point a ring is."""
SIZES = (4, 5, 7, 10, 14)
"""Of the points that fire on a share of 10^-4, 10^-3... 1 of the rows."""


def directions(table: pd.DataFrame) -> go.Figure:
    """A point for each latent; those with a block on the page have a ring."""
    import plotly.graph_objects as go

    placed = table[table["map_x"].notna()].assign(words=words_of(table[table["map_x"].notna()]))
    figure = go.Figure()
    if not len(placed):
        figure.add_annotation(text="No map was asked for (layout='none').", showarrow=False)
    alive = placed[placed["fired"] > 0]
    if len(alive) and "class" in table:
        _by_class(figure, alive)
    elif len(alive):
        figure.add_scatter(**_points(alive, "fires"), marker=_marker(alive, COLORS["value"]))
    shown_ones = alive[alive["place"].notna()]
    if len(shown_ones):
        rings = _marker(shown_ones, COLORS["other"], "circle-open")
        figure.add_scatter(
            x=shown_ones["map_x"].round(3),
            y=shown_ones["map_y"].round(3),
            name="shown below",
            mode="markers",
            marker=rings | {"size": rings["size"] + RING, "line": {"width": 1.5}},
            hoverinfo="skip",
        )
    silent = placed[placed["fired"] == 0]
    if len(silent):
        figure.add_scatter(
            **_points(silent, DEAD),
            marker={"symbol": "x-thin-open", "size": 6, "color": COLORS["other"]},
        )
    hidden = {"showgrid": False, "showticklabels": False, "title": ""}
    figure.update_layout(
        title={"text": "Latents, near each other where they write alike"},
        height=620,
        margin={"l": 12, "r": 12, "t": 64, "b": 60},
        xaxis=hidden,
        yaxis=hidden,
        hovermode="closest",
        showlegend="class" in table or bool(len(silent)),
        legend={"y": -0.02, "yanchor": "top", "itemsizing": "constant"},
    )
    return themed(figure)


def _by_class(figure: go.Figure, alive: pd.DataFrame) -> None:
    name = alive["class"].where(told(alive))
    common = sorted(name.value_counts().index[:CLASSES])
    name = name.where(name.isin(common) | name.isna(), OTHER).fillna(NONE)
    looks = marks([*common, OTHER], OTHER) | {NONE: (COLORS["other"], "circle-open")}
    looks[OTHER] = (COLORS["other"], "diamond")
    for one in [*common, OTHER, NONE]:
        lines = alive[name == one]
        if len(lines):
            color, symbol = looks[one]
            # What is open is nothing but its outline, so a ring would not be seen.
            marker = _marker(lines, color, symbol.removesuffix("-open"))
            marker |= {"opacity": 0.45} if one == NONE else {}
            figure.add_scatter(**_points(lines, plain(one)), marker=marker)


def _marker(lines: pd.DataFrame, color: str, symbol: str = "circle") -> dict[str, Any]:
    """Larger where it fires more often."""
    scale = np.log10(lines["density"].clip(lower=10.0 ** -len(SIZES)))
    return {
        "color": color,
        "symbol": symbol,
        "size": np.interp(scale, range(-len(SIZES) + 1, 1), SIZES).round(1),
    }


def _points(lines: pd.DataFrame, name: str) -> dict[str, Any]:
    return {
        "x": lines["map_x"].round(3),
        "y": lines["map_y"].round(3),
        "name": name,
        "mode": "markers",
        # Not drawn: what the report's search box looks through.
        "text": list(lines["words"]),
        "customdata": [_told(line) for line in lines.to_dict("records")],
        "hovertemplate": "%{customdata}<extra></extra>",
        "selected": {"marker": {"opacity": 1.0}},
        "unselected": {"marker": {"opacity": 0.08}},
    }


def _told(line: dict[Any, Any]) -> str:
    parts = [f"<b>latent {line['latent']}</b>, fires on {line['density']:.2%} of rows"]
    if isinstance(line["token"], str):
        parts.append(f"often on “{plain(shown(line['token']))}” ({line['token_share']:.0%})")
    if isinstance(line.get("class"), str):
        parts.append(f"{plain(line['class'])}: F1 {line['score']:.2f}, shuffled {line['null']:.2f}")
    if len(line.get("up", ())):
        parts.append("raises " + " ".join(f"“{plain(shown(one))}”" for one in line["up"][:3]))
    return "<br>".join(parts)
