"""Maps of the same points at every layer, with a slider, on the axes ``x`` and ``y``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.clustering.class_colours import UPOS, marks
from layerscope.analyses.clustering.maps import METHODS, NAMES
from layerscope.analyses.clustering.separation_curves import place_of
from layerscope.analyses.clustering.word_class_maps import OTHER
from layerscope.theme import plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.clustering.word_class_finding import WordClassFinding

Place = tuple[str, str, str]
"""Method, kind of class, class: what one trace draws."""


def add_maps(
    figure: go.Figure,
    finding: WordClassFinding,
    *,
    within: tuple[float, float],
) -> None:
    """One trace per class, method and kind of class; the slider moves the points, a menu swaps maps.

    It opens at the layer where the classes are furthest apart by GDV.

    Frames name the traces of the other panels too, without a change: plotly wipes those it is not
    told of while it moves the others.
    """
    table = finding.table
    points = table[table["part"] == "point"].set_index("point")
    grids = _grids(table[table["part"] == "map"], len(points))
    sites = list(dict.fromkeys(site for site, _ in grids))
    places = _places(finding, points)
    first = len(figure.data)
    opened = _furthest(finding, sites)
    hovers = _hovers(points, finding.kinds)
    shown = {kind: marks(_classes(points, kind), OTHER) for kind in finding.kinds}
    for place in places:
        here = _members(points, place)
        figure.add_scatter(**_trace(place, grids, opened, here, hovers, shown, places[0]))
    names = place_of(finding)
    every = list(range(len(figure.data)))
    figure.frames = [
        {
            "name": site,
            "traces": every,
            "data": [
                *({} for _ in range(first)),
                *(_xy(grids[site, place[0]], _members(points, place)) for place in places),
            ],
        }
        for site in sites
    ]
    _arrange(figure, within)
    slider = _slider({site: names[site][1] for site in sites}, within[0])
    figure.layout.sliders = [slider | {"active": sites.index(opened)}]
    views = list(dict.fromkeys((method, kind) for method, kind, _ in places))
    titles = [title(str(finding.table["label"].iloc[0]), kind) for _, kind in views]
    menu = _menu(views, titles, places, first)
    figure.layout.updatemenus = (*figure.layout.updatemenus, menu)


def _furthest(finding: WordClassFinding, sites: list[str]) -> str:
    lines = finding.curve("gdv")
    lines = lines[lines["site"].isin(sites) & lines["value"].notna()]
    return str(lines.iloc[int(lines["value"].argmin())]["site"]) if len(lines) else sites[0]


def _grids(places: pd.DataFrame, count: int) -> dict[tuple[str, str], Any]:
    """``{(site, method): [points, 2]}``"""
    found = {}
    for key, lines in places.groupby(["site", "method"], sort=False):
        ordered = lines.sort_values("point")[["x", "y"]].to_numpy(dtype=np.float32)
        found[str(key[0]), str(key[1])] = ordered.reshape(count, 2)
    return found


def _classes(points: pd.DataFrame, kind: str) -> list[str]:
    """Universal word classes with their kin, others by their name; what is left out last."""
    order = {name: place for place, name in enumerate(UPOS)}
    names = sorted(map(str, points[kind].unique()), key=lambda name: (order.get(name, 99), name))
    return [name for name in names if name != OTHER] + [OTHER] * (OTHER in names)


def _places(finding: WordClassFinding, points: pd.DataFrame) -> list[Place]:
    there = set(finding.table["method"].dropna())
    # What most come to see opens first.
    methods = sorted((m for m in METHODS if m in there), key=lambda method: method != "umap")
    return [
        (m, kind, name)
        for m in methods
        for kind in finding.kinds
        for name in _classes(points, kind)
    ]


def _members(points: pd.DataFrame, place: Place) -> Any:
    return np.flatnonzero((points[place[1]] == place[2]).to_numpy())


def _xy(grid: Any, here: Any) -> dict[str, Any]:
    return {"x": grid[here, 0], "y": grid[here, 1]}


def _trace(
    place: Place,
    grids: dict[tuple[str, str], Any],
    site: str,
    here: Any,
    hovers: list[str],
    shown: dict[str, dict[str, tuple[str, str]]],
    first: Place,
) -> dict[str, Any]:
    method, kind, name = place
    color, symbol = shown[kind][name]
    return _xy(grids[site, method], here) | {
        "ids": [str(number) for number in here],
        "name": plain(name),
        "mode": "markers",
        "marker": {"color": color, "symbol": symbol, "size": 7, "opacity": 0.85},
        "customdata": [hovers[number] for number in here],
        "hovertemplate": "%{customdata}<extra></extra>",
        "visible": (method, kind) == first[:2],
    }


def _hovers(points: pd.DataFrame, kinds: tuple[str, ...]) -> list[str]:
    return [
        f"{plain(line['left'])}<b>{plain(line['token'])}</b>{plain(line['right'])}<br>"
        + ", ".join(f"{kind} word: {plain(line[kind])}" for kind in reversed(kinds))
        for line in points.to_dict("records")
    ]


def _arrange(figure: go.Figure, within: tuple[float, float]) -> None:
    # Nearly all points lie within 1; a double click shows those that are far out.
    reach = [-1.1, 1.1]
    bare = {"showgrid": False, "showticklabels": False, "range": reach, "zeroline": False}
    frame = {"showline": True, "mirror": True, "title": {"text": ""}}
    figure.update_layout(
        xaxis=bare | frame | {"anchor": "y"},
        yaxis=bare | frame | {"anchor": "x", "domain": list(within), "scaleanchor": "x"},
        legend={"y": 1.005, "font": {"size": 12}},
    )


def _slider(names: dict[str, str], bottom: float) -> dict[str, Any]:
    move = {
        "mode": "immediate",
        "frame": {"duration": 600, "redraw": False},
        "transition": {"duration": 500, "easing": "cubic-in-out"},
    }
    return {
        "steps": [
            {"label": name, "method": "animate", "args": [[site], move]}
            for site, name in names.items()
        ],
        "currentvalue": {"prefix": "layer ", "font": {"size": 13}},
        "y": bottom - 0.005,
        "yanchor": "top",
        "x": 0,
        "len": 1.0,
        "pad": {"t": 4, "b": 0},
        "bgcolor": "#9aa1a9",
        "bordercolor": "#7d7d7d",
        "transition": {"duration": 500},
    }


def title(label: str, kind: str) -> str:
    """Of the figure; the second line says what points and colours are."""
    return (
        f"Hidden states by {plain(label)}, layer by layer<br>"
        f"<span style='font-size:13px'>one point per word; colour: class of the {kind} word</span>"
    )


def _menu(
    views: list[tuple[str, str]], titles: list[str], places: list[Place], first: int
) -> dict[str, Any]:
    traces = list(range(first, first + len(places)))
    buttons = [
        {
            "label": f"{NAMES[method]}, by {kind} word",
            "method": "update",
            "args": [
                {"visible": [place[:2] == (method, kind) for place in places]},
                {"title.text": told},
                traces,
            ],
        }
        for (method, kind), told in zip(views, titles, strict=True)
    ]
    return {"buttons": buttons, "x": 1.0, "xanchor": "right", "y": 1.0, "yanchor": "top"}
