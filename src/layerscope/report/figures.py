"""A plotly figure as data for a page: thinned, measured, captioned and described in words."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from html import unescape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

FIGURE_BYTES = 1_000_000
"""One figure's JSON; more makes a page slow to open and a report too large to mail."""

HEIGHT = 420
"""Pixels of a figure that states none."""
TITLE_HEIGHT = 32
"""Pixels that plotly keeps for a title, and that the caption of the page gives back."""

_KINDS = {
    "scatter": "line or point series",
    "scattergl": "point series",
    "bar": "bar series",
    "heatmap": "heat map",
    "histogram": "histogram",
    "box": "box plot",
    "violin": "violin plot",
}


def embedded(figure: go.Figure, limit: int = FIGURE_BYTES) -> tuple[dict[str, Any], str]:
    """The figure as plain JSON values without its template, and a note, empty if complete.

    Point clouds above the limit are thinned evenly, which the note says; nothing else can be left
    out without changing what is seen.

    Raises:
        ValueError: the figure is above the limit and not because of its points.
    """
    body = _plain(figure)
    # The page dresses every figure itself, light or dark; 7 kB of template each would be waste.
    body["layout"].pop("template", None)
    size = _bytes(body)
    if size <= limit:
        return body, ""
    step = math.ceil(size / (0.9 * limit))
    thin = _plain(_thinned(figure, step))
    body |= {part: thin[part] for part in ("data", "frames") if part in body}
    if _bytes(body) > limit:
        raise ValueError(f"its figure takes {size:,} bytes, more than {limit:,}")
    return body, f"The figure shows every {_ordinal(step)} point; the table has all."


def described(body: dict[str, Any]) -> str:
    """One sentence for those who do not see the figure: what is drawn, over which axes.

    >>> described({"data": [{"type": "bar", "name": "recall"}], "layout": {}})
    'Figure: 1 bar series (recall).'
    """
    drawn = [trace for trace in body["data"] if trace.get("hoverinfo") != "skip"]
    kinds = Counter(_KINDS.get(trace.get("type", "scatter"), "series") for trace in drawn)
    parts = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no series"
    names = list(dict.fromkeys(str(trace["name"]) for trace in drawn if trace.get("name")))
    named = f" ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else ""
    return f"Figure: {parts}{named}{_axes(body['layout'])}."


def captioned(body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The figure without its title, and the lines of the title as text.

    A page writes it above the figure, where it wraps on a phone and meets neither legend nor
    buttons. What the title took comes off the margin and the height.

    >>> captioned({"data": [], "layout": {"title": {"text": "<b>a</b> &lt;s&gt;<br>c"}}})[1]
    ('a <s>', 'c')
    """
    layout = dict(body["layout"])
    title = layout.pop("title", None) or {}
    lines = (_text(line) for line in re.split(r"<br */?>", title.get("text") or ""))
    told = tuple(line for line in lines if line)
    margin = layout.get("margin", {})
    if told and "t" in margin:
        layout["margin"] = margin | {"t": max(0, margin["t"] - TITLE_HEIGHT)}
        layout["height"] = (layout.get("height") or HEIGHT) - TITLE_HEIGHT
    return body | {"layout": layout}, told


def _text(markup: str) -> str:
    """What plotly's markup says, without it."""
    return unescape(re.sub(r"<[^>]*>", "", markup)).strip()


def _axes(layout: dict[str, Any]) -> str:
    titles = [
        f"{word}: {text}"
        for key, word in (("xaxis", "across"), ("yaxis", "up"))
        if (text := layout.get(key, {}).get("title", {}).get("text"))
    ]
    return f"; {', '.join(titles)}" if titles else ""


def _plain(figure: go.Figure) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(figure.to_json())
    return body


def _bytes(body: dict[str, Any]) -> int:
    return len(json.dumps(body))


def _thinned(figure: go.Figure, step: int) -> go.Figure:
    import plotly.graph_objects as go

    def thin(traces: Any) -> list[dict[str, Any]]:
        return [_thinned_trace(trace.to_plotly_json(), step) for trace in traces]

    frames = [frame.to_plotly_json() | {"data": thin(frame.data)} for frame in figure.frames]
    return go.Figure(thin(figure.data), frames=frames)


def _thinned_trace(trace: dict[str, Any], step: int) -> dict[str, Any]:
    points = trace.get("x")
    only_points = trace["type"] in ("scatter", "scattergl") and trace.get("mode") == "markers"
    if not only_points or points is None:
        return trace
    thin: dict[str, Any] = _every(trace, step, len(points))
    return thin


def _every(value: Any, step: int, length: int) -> Any:
    """Each `step`-th entry of every array that runs along the points, at any depth."""
    if isinstance(value, dict):
        return {key: _every(inner, step, length) for key, inner in value.items()}
    along = not isinstance(value, str) and hasattr(value, "__len__") and len(value) == length
    return value[::step] if along else value


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
