"""What the figures share that are a grid of cells by layer: the colour bar below, tokens downwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from layerscope.analyses.material.pieces import shown
from layerscope.theme import plain


def bar_below(title: str, *, y: float = 0, **more: Any) -> dict[str, Any]:
    """A `colorbar` as wide as the grid, its top at `y` of the grid's height."""
    return {
        "title": {"text": title, "side": "bottom", "font": {"size": 13}},
        "orientation": "h",
        "y": y,
        "yanchor": "top",
        "lenmode": "fraction",
        "len": 1,
        **more,
    }


def tokens_down(tokens: Iterable[object]) -> dict[str, Any]:
    """A `yaxis` with a token in each row, in reading order."""
    names = [plain(shown(str(token), 14)) for token in tokens]
    return {
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "autorange": "reversed",
        "showgrid": False,
    }
