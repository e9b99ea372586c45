"""How `label_errors` is drawn: suspicious rows by layer, and what a flag is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENCE, band, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PAIRS = 10
"""Kinds of error shown."""


def draw(table: pd.DataFrame) -> go.Figure:
    """Shares by layer on top; below, the commonest pairs of given and suggested class."""
    from plotly.subplots import make_subplots

    sites = table[table["part"] == "site"].dropna(axis=1, how="all")
    pairs = table[table["part"] == "pair"].head(PAIRS)
    label = plain(sites["label"].iloc[0])
    figure = make_subplots(
        rows=2 if len(pairs) else 1,
        cols=1,
        vertical_spacing=0.17,
        subplot_titles=[
            f"How many {label} labels look wrong",
            "Estimated errors: given → suggested",
        ][: 2 if len(pairs) else 1],
    )
    _curves(figure, sites)
    if len(pairs):
        _bars(figure, pairs)
    figure.update_layout(height=760 if len(pairs) else 420, hovermode="closest", margin={"t": 100})
    figure.update_layout(legend={"y": 1.06})
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    if "layer" in sites:
        mark_layers(figure, sites["layer"], "x")
    return themed(figure)


def _curves(figure: go.Figure, sites: pd.DataFrame) -> None:
    by_layer = "layer" in sites and sites["layer"].notna().all()
    x = list(sites["layer"].astype(int)) if by_layer else list(range(len(sites)))
    names = [
        ("embed" if place < 0 else str(place)) if by_layer else plain(site)
        for place, site in zip(x, sites["site"], strict=True)
    ]
    if "ci_low" in sites and len(x) > 1:
        shade = band(x, sites["ci_low"], sites["ci_high"], COLORS["value"])
        figure.add_scatter(**shade, row=1, col=1)
    drawn = [("value", "look wrong", COLORS["value"], "solid")]
    if "recall" in sites:
        drawn += [
            ("recall", "found, of labels changed on purpose", SEQUENCE[2], "dash"),
            ("precision_top", "changed, of as many most suspicious", SEQUENCE[1], "dot"),
            ("null_mean", "by chance", COLORS["baseline"], DASHES["baseline"]),
        ]
    for column, name, color, dash in drawn:
        figure.add_scatter(
            x=x,
            y=sites[column],
            name=name,
            mode="lines+markers" if column != "null_mean" else "lines",
            line={"color": color, "dash": dash},
            marker={"size": 6},
            customdata=[_hover(line, column, name) for _, line in sites.iterrows()],
            hovertemplate="%{customdata}<extra></extra>",
            row=1,
            col=1,
        )
    figure.update_xaxes(title="layer", tickvals=x, ticktext=names, row=1, col=1)
    figure.update_yaxes(title="share of labels", tickformat=".0%", rangemode="tozero", row=1, col=1)


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{name}: {line[column]:.1%}"
    if column == "value":
        text += spoken(line["ci_low"], line["ci_high"], ".1%")
        text += f"<br>probe accuracy {line['accuracy']:.3f}, n = {line['n']:,}"
    if column == "recall":
        text += f"<br>of what is flagged then, changed: {line['precision']:.1%}"
    return text


def _bars(figure: go.Figure, pairs: pd.DataFrame) -> None:
    shown = pairs.iloc[::-1]
    names = [
        f"{plain(a)} → {plain(b)}" for a, b in zip(shown["given"], shown["suggested"], strict=True)
    ]
    figure.add_bar(
        x=shown["count"].astype(int),
        y=names,
        orientation="h",
        marker={"color": COLORS["value"]},
        showlegend=False,
        hovertemplate="%{y}: about %{x} labels<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_xaxes(title="labels", row=2, col=1)
    figure.update_yaxes(automargin=True, row=2, col=1)
