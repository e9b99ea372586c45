"""Every reading as a mark: how far it is from what must come out, in units of what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.calibration.words import AS_EXPECTED, FAILED, OFF, expected, measured
from layerscope.theme import COLORS, faded, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

EDGE = 1.5
"""Where readings are drawn that are farther off than this, in units of what is allowed."""
ROW, HEADING = 1.0, 1.7
"""Height of a line, and what a family's name takes above its first one."""
PIXELS = 17


def figure(table: pd.DataFrame) -> go.Figure:
    """One strip per family with a line for each instrument; the band is what is allowed."""
    import plotly.graph_objects as go

    places, headings, strips, depth = _layout(table)
    drawn = go.Figure()
    for name, color, symbol, lines in _groups(table):
        if len(lines):
            drawn.add_scatter(
                x=[_place(row) for row in lines.itertuples()],
                y=[places[name] for name in lines["instrument"]],
                mode="markers",
                name=name,
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": 11 if symbol in ("x", "triangle-up") else 8,
                    "opacity": 0.9,
                    "line": {"width": 1.2, "color": color},
                },
                text=[_hover(row) for row in lines.itertuples()],
                hovertemplate="%{text}<extra></extra>",
            )
    drawn.add_vrect(-1, 1, fillcolor=faded(COLORS["good"], 0.1), line_width=0, layer="below")
    drawn.add_vline(0, line={"color": faded(COLORS["good"], 0.6), "width": 1}, layer="below")
    for top, bottom in strips:
        drawn.add_hline(
            (top + bottom) / 2 if top == bottom else top,
            line={"color": faded(COLORS["other"], 0.35), "width": 1},
            layer="below",
        )
    return drawn.update_layout(
        height=round(depth * PIXELS) + 120,
        xaxis={
            "title": "(measured - expected) / allowed",
            "range": [-EDGE - 0.15, EDGE + 0.15],
            "tickvals": [-1, 0, 1],
            "ticktext": ["-1", "as expected", "+1"],
            "showgrid": False,
        },
        yaxis={
            "range": [depth, -0.2],
            "tickvals": [*headings.values(), *places.values()],
            "ticktext": [*(f"<b>{plain(name)}</b>" for name in headings), *map(plain, places)],
            "tickfont": {"size": 11},
            "showgrid": False,
            "ticklabelstep": 1,
        },
        legend={"itemclick": False, "itemdoubleclick": False},
    )


def _layout(
    table: pd.DataFrame,
) -> tuple[dict[str, float], dict[str, float], list[tuple[float, float]], float]:
    """Height of each instrument's line, of each family's name, the strips, and all of it."""
    places: dict[str, float] = {}
    headings: dict[str, float] = {}
    strips, at = [], 0.0
    for family, own in table.groupby("family", sort=False):
        strips.append((at, at))
        at += HEADING / 2
        headings[str(family)] = at
        at += HEADING / 2
        for name in dict.fromkeys(own["instrument"]):
            places[str(name)] = at + ROW / 2
            at += ROW
        at += ROW / 2
    return places, headings, strips, at


def _groups(table: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """Name, colour, symbol and lines of each kind of mark; shapes tell them apart without colour."""
    fine = table["verdict"] == AS_EXPECTED
    exact = table["allowed"] == 0
    return [
        ("as expected, exactly", COLORS["good"], "diamond-open", table[fine & exact]),
        ("as expected, within what is allowed", COLORS["value"], "circle", table[fine & ~exact]),
        ("off", COLORS["bad"], "x", table[table["verdict"] == OFF]),
        ("failed", COLORS["bad"], "triangle-up", table[table["verdict"] == FAILED]),
    ]


def _place(row: Any) -> float:
    """Where a reading is drawn, at most `EDGE` from the middle; words that differ are at the edge."""
    if row.verdict == FAILED:
        return EDGE
    if row.off == 0:
        return 0.0
    below = row.measured < row.expected
    return float(min(row.off, EDGE) * (-1 if below else 1))


def _hover(row: Any) -> str:
    said = f"expected {expected(row)}, measured {measured(row)}"
    if row.verdict == FAILED:
        said = measured(row)
    return (
        f"<b>{plain(row.instrument)}</b><br>{plain(row.quantity)}<br>{plain(said)}<br>{row.verdict}"
    )
