"""A score by layer with its interval, above the lines it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, band, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Lines = Mapping[str, tuple[str, str, str]]
"""Column -> name, colour by its meaning, dash."""


def layer_lines(figure: go.Figure, lines: pd.DataFrame, others: Lines, *, row: int) -> None:
    """Draw ``value`` and those of the other columns that are there."""
    x = places(lines)
    for column, (name, meaning, dash) in others.items():
        if column not in lines or not lines[column].notna().any():
            continue
        color = COLORS[meaning]
        if f"{column}_low" in lines and column != "identity" and len(x) > 1:
            low, high = lines[f"{column}_low"], lines[f"{column}_high"]
            figure.add_scatter(**band(x, low, high, color, 0.1), row=row, col=1)
        figure.add_scatter(
            **_line(x, lines, column, name),
            line={"color": color, "dash": dash, "width": 1.75},
            marker={"size": 4},
            row=row,
            col=1,
        )
    color = COLORS["value"]
    if len(x) > 1:
        figure.add_scatter(**band(x, lines["ci_low"], lines["ci_high"], color), row=row, col=1)
    figure.add_scatter(
        **_line(x, lines, "value", "probe"), line={"color": color}, legendrank=1, row=row, col=1
    )


def places(lines: pd.DataFrame) -> list[int]:
    """Where each line is on the layer axis: its layer, or its place where a site has none."""
    if lines["layer"].notna().all():
        return [int(layer) for layer in lines["layer"]]
    return list(range(len(lines)))


def axis(figure: go.Figure, lines: pd.DataFrame, *, row: int) -> None:
    """Name the layers."""
    x = places(lines)
    layered = lines["layer"].notna().all()
    names = (
        ["embed" if layer < 0 else str(layer) for layer in x]
        if layered
        else list(map(plain, lines["site"]))
    )
    figure.update_xaxes(
        title="layer" if layered else "site", tickvals=x, ticktext=names, row=row, col=1
    )


def _line(x: list[int], lines: pd.DataFrame, column: str, name: str) -> dict[str, Any]:
    return {
        "x": x,
        "y": lines[column],
        "name": name,
        "mode": "lines+markers",
        "customdata": [_hover(line, column, name) for _, line in lines.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    low, high = ("ci_low", "ci_high") if column == "value" else (f"{column}_low", f"{column}_high")
    text = f"<b>{plain(line['site'])}</b><br>{name}: {line[column]:.3f}"
    if low in line:
        text += f" ({line[low]:.3f} to {line[high]:.3f})"
    if column == "value":
        text += f"<br>n = {line['n']:,} in {line['n_groups']:,} groups"
    return text
