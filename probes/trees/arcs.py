"""A sentence with a tree above it and another one below, drawn as arcs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.theme import COLORS, DASHES, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

GAP = 0.55
"""Height of half the strip in which the words stand, in units of one step along the sentence."""
_POINTS = 24


def draw_arcs(figure: go.Figure, words: pd.DataFrame, *, row: int) -> None:
    """Gold arcs above the words, found arcs below: those that are right in one colour.

    Args:
        words: Columns position, word, head and found_head (from 1, 0 for the root), scored.
    """
    forms = list(map(str, words["word"]))
    gold = _edges(words["head"], words["scored"])
    found = _edges(words["found_head"], words["scored"])
    for name, edges, up, color, dash in (
        ("gold tree", gold, True, COLORS["other"], "solid"),
        ("found, right", found & gold, False, COLORS["good"], "solid"),
        ("found, wrong", found - gold, False, COLORS["bad"], DASHES["control"]),
    ):
        figure.add_scatter(**_arcs(edges, up, name, color, dash), row=row, col=1)
        figure.add_scatter(**_hovers(edges, up, name, color, forms), row=row, col=1)
    roots = (_root(words["head"]), _root(words["found_head"]))
    figure.add_scatter(**_root_marks(roots, forms), row=row, col=1)
    figure.add_scatter(**_words(forms, list(words["scored"])), row=row, col=1)
    top = max([1.0, *(_height(a, b) for a, b in gold | found)]) + GAP + 0.3
    figure.update_xaxes(visible=False, range=[-0.7, len(forms) - 0.3], row=row, col=1)
    figure.update_yaxes(visible=False, range=[-top, top], row=row, col=1)


def _edges(heads: Any, scored: Any) -> set[tuple[int, int]]:
    allowed = list(scored)
    found = set()
    for word, head in enumerate(_numbers(heads)):
        if head < 1 or not allowed[word]:
            continue
        other = head - 1
        if allowed[other]:
            found.add((min(word, other), max(word, other)))
    return found


def _numbers(heads: Any) -> list[int]:
    """Heads from 1, 0 for the root; -1 for a word that has none."""
    return [int(head) for head in heads.fillna(-1)]


def _root(heads: Any) -> int:
    places = [word for word, head in enumerate(_numbers(heads)) if head == 0]
    return places[0] if places else -1


def _height(a: int, b: int) -> float:
    return 0.6 * float((b - a) ** 0.75)


def _curve(a: int, b: int, up: bool) -> tuple[list[float], list[float]]:
    angle = np.linspace(np.pi, 0, _POINTS)
    x = (a + b) / 2 + (b - a) / 2 * np.cos(angle)
    y = GAP + _height(a, b) * np.sin(angle)
    return x.tolist(), (y if up else -y).tolist()


def _arcs(
    edges: set[tuple[int, int]], up: bool, name: str, color: str, dash: str
) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    for a, b in sorted(edges):
        right, high = _curve(a, b, up)
        x += [*right, None]
        y += [*high, None]
    return {
        "x": x or [None],
        "y": y or [None],
        "name": name,
        "legend": "legend2",
        "mode": "lines",
        "line": {"color": color, "dash": dash, "width": 2},
        "hoverinfo": "skip",
    }


def _hovers(
    edges: set[tuple[int, int]], up: bool, name: str, color: str, forms: Sequence[str]
) -> dict[str, Any]:
    """Unseen points at the tops of the arcs, which a pointer finds."""
    pairs = sorted(edges)
    side = 1 if up else -1
    return {
        "x": [(a + b) / 2 for a, b in pairs] or [None],
        "y": [side * (GAP + _height(a, b)) for a, b in pairs] or [None],
        "mode": "markers",
        "marker": {"size": 10, "opacity": 0, "color": color},
        "showlegend": False,
        "customdata": [f"{plain(forms[a])} and {plain(forms[b])}" for a, b in pairs],
        "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
    }


def _root_marks(roots: tuple[int, int], forms: Sequence[str]) -> dict[str, Any]:
    gold, found = roots
    right = COLORS["good"] if gold == found else COLORS["bad"]
    names = [plain(forms[place]) if place >= 0 else "" for place in roots]
    return {
        "x": [gold, found],
        "y": [GAP, -GAP],
        "name": "root",
        "legend": "legend2",
        "mode": "markers",
        "marker": {
            "symbol": ["triangle-down", "triangle-up"],
            "size": 11,
            "color": [COLORS["other"], right],
        },
        "customdata": [f"gold root: {names[0]}", f"found root: {names[1]}"],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _words(forms: Sequence[str], scored: Sequence[bool]) -> dict[str, Any]:
    long = len(forms) > 7  # two lines, so that they do not meet on a narrow page
    shown = [
        plain(form) if ok else f"<i>{plain(form)}</i>"
        for form, ok in zip(forms, scored, strict=True)
    ]
    return {
        "x": list(range(len(forms))),
        "y": [0.12 * (1 if place % 2 else -1) * 2 * long for place in range(len(forms))],
        "text": shown,
        "mode": "text",
        "textfont": {"size": 11 if long else 13},
        "showlegend": False,
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
