"""The picture of an anatomy, drawn from the table of an `AnatomyFinding` alone.

Time runs downward. The thick line is the residual stream; a box is a sublayer, which reads the
stream above and adds to it below. One block stands for all blocks of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Record = dict[str, Any]
INSIDE = {"attn_out": ("q", "k", "v", "pattern", "z"), "mlp_out": ("mlp_act",)}
COLUMN = 6.4
"""Width of one stack in the picture."""
LINE_PX = 34
FRAME = {"line": {"color": COLORS["other"], "width": 1, "dash": "dot"}, "layer": "below"}
BOX = {"line": {"color": COLORS["value"], "width": 1.5}, "fillcolor": "rgba(0, 114, 178, 0.14)"}


@dataclass
class Row:
    """One level of the picture: a state of the stream, then what is added to it."""

    label: str
    hover: str
    boxes: list[tuple[str, str]] = field(default_factory=list)
    """(text, hover) of each sublayer that runs between this state and the next."""


@dataclass
class Column:
    """One stack: states before, inside and after the block that stands for most."""

    caption: str
    before: list[Row]
    block: list[Row]
    after: list[Row]

    @property
    def rows(self) -> list[Row]:
        return [*self.before, *self.block, *self.after]


def draw(table: pd.DataFrame) -> go.Figure:
    """The stacks side by side, the verdicts below."""
    import plotly.graph_objects as go

    sites, checks = (_records(table[table["row"] == row]) for row in ("site", "check"))
    records = {record["name"]: record for record in sites}
    columns = [c for prefix in ("encoder.", "") if (c := _column(records, prefix)) is not None]
    figure = go.Figure()
    for i, column in enumerate(columns):
        _draw_column(figure, column, x=COLUMN * i)
    depth = 2 * max((len(column.rows) for column in columns), default=0)
    _draw_checks(figure, checks, top=-depth)
    lines = depth + len(checks)
    margin = {"l": 10, "r": 10, "t": 24, "b": 10}
    figure.update_layout(height=LINE_PX * (lines + 1) + 34, showlegend=False, margin=margin)
    figure.update_xaxes(visible=False, range=[-2.3, COLUMN * max(len(columns), 1) - 2.3])
    figure.update_yaxes(visible=False, range=[-lines, 1])
    return figure


def _records(table: pd.DataFrame) -> list[Record]:
    return [{str(k): v for k, v in record.items()} for record in table.to_dict("records")]


def _column(records: dict[str, Record], prefix: str) -> Column | None:
    block, caption = _typical(records, f"{prefix}blocks.")
    if block is None:
        return None
    ends = ("norm",) if prefix else ("norm", "logits")
    after = [_row(records[n], end) for end in ends if (n := f"{prefix}{end}") in records]
    start = records.get(f"{prefix}embed")
    before = [_row(start, "embed")] if start else []
    return Column(caption, before, list(_block_rows(records, block)), after)


def _typical(records: dict[str, Record], start: str) -> tuple[str | None, str]:
    """The first block of the commonest make-up, and how many are like it."""
    parts: dict[str, list[str]] = {}
    for name in (n for n in records if n.startswith(start)):
        number, _, part = name.removeprefix(start).partition(".")
        parts.setdefault(number, []).append(f"{part} {records[name]['shape']}")
    if not parts:
        return None, ""
    common, count = Counter(map(tuple, parts.values())).most_common(1)[0]
    first = next(number for number, held in parts.items() if tuple(held) == common)
    return f"{start}{first}.", f"{start}i: {count} of {len(parts)} are like this"


def _block_rows(records: dict[str, Record], block: str) -> Iterator[Row]:
    row: Row | None = None
    for name in (n for n in records if n.startswith(block)):
        part = name.removeprefix(block)
        if part.startswith("resid_"):
            if row is not None:
                yield row
            row = _row(records[name], part)
        elif part.endswith("_out") and row is not None:
            row.boxes.append(_box(records, block, part))
    if row is not None:
        yield row


def _row(record: Record, label: str) -> Row:
    shape = f"  [{record['shape']}]" if record["shape"] else ""
    return Row(f"{label}{shape}", _hover(record))


def _box(records: dict[str, Record], block: str, part: str) -> tuple[str, str]:
    inside = [s for s in INSIDE.get(part, ()) if f"{block}{s}" in records]
    text = part + (f"<br><i>{' '.join(inside)}</i>" if inside else "")
    return text, "<br>".join(_hover(records[f"{block}{s}"]) for s in (part, *inside))


def _hover(record: Record) -> str:
    detail = f"<br>{record['detail']}" if record["detail"] else ""
    return f"<b>{record['name']}</b> [{record['shape']}]<br>{record['where']}{detail}"


def _draw_column(figure: go.Figure, column: Column, x: float) -> None:
    heights = [-2 * i for i in range(len(column.rows))]
    for row, y in zip(column.rows, heights, strict=True):
        _write(figure, x - 0.18, y, row.label, "right")
        for i, (text, hover) in enumerate(row.boxes):
            _draw_box(figure, x, y, x + 1.3 + 1.75 * i, text, hover)
    figure.add_scatter(
        x=[x] * len(heights),
        y=heights,
        mode="lines+markers",
        line={"color": COLORS["value"], "width": 4},
        marker={"size": 11, "color": COLORS["value"]},
        hovertext=[row.hover for row in column.rows],
        hoverinfo="text",
    )
    top = -2 * len(column.before) + 0.8
    bottom = top - 2 * len(column.block) + 0.6
    edges = {"x0": x - 2.2, "x1": x + COLUMN - 2.5, "y0": bottom, "y1": top}
    figure.add_shape(type="rect", **edges, **FRAME)
    _write(figure, x + COLUMN - 2.55, top - 0.35, column.caption, "right")


def _draw_box(figure: go.Figure, x: float, y: float, at: float, text: str, hover: str) -> None:
    """A sublayer at `at`: reads the stream at y, adds to it before the next state."""
    middle, below = y - 1, y - 2
    reads = ([x, at, at], [y, y, middle + 0.55])
    writes = ([at, at, x], [middle - 0.55, below + 0.25, below + 0.25])
    for xs, ys in (reads, writes):
        line = {"color": COLORS["value"], "width": 1.5}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip")
    edges = {"x0": at - 0.8, "x1": at + 0.8, "y0": middle - 0.55, "y1": middle + 0.55}
    figure.add_shape(type="rect", **edges, **BOX)
    # The words are an annotation and the hover an unseen mark: annotations centre their lines.
    _write(figure, at, middle, text, "center")
    mark = {"size": 30, "opacity": 0}
    figure.add_scatter(
        x=[at], y=[middle], mode="markers", marker=mark, hovertext=[hover], hoverinfo="text"
    )


def _draw_checks(figure: go.Figure, checks: list[Record], top: float) -> None:
    """One line for each verdict: a dot passed, a cross failed, a ring does not apply."""
    marks = {
        True: ("circle", COLORS["good"], ""),
        False: ("x", COLORS["bad"], "FAILED: "),
        None: ("circle-open", COLORS["other"], "does not apply: "),
    }
    for i, check in enumerate(checks):
        symbol, colour, word = marks[check["passed"] if check["passed"] in (True, False) else None]
        error = "" if isnan(check["error"]) else f" (error {check['error']:.0e})"
        figure.add_scatter(
            x=[-2.1],
            y=[top - i],
            mode="markers",
            marker={"symbol": symbol, "size": 10, "color": colour},
            hovertext=[check["detail"]],
            hoverinfo="text",
        )
        _write(figure, -1.95, top - i, f"{word}{check['name']}{error}", "left")


def _write(figure: go.Figure, x: float, y: float, text: str, anchor: str) -> None:
    figure.add_annotation(x=x, y=y, text=text, showarrow=False, xanchor=anchor, align=anchor)
