"""A map of layers and tokens for one prompt, or a curve over layers for several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.grids import bar_below, tokens_down
from layerscope.theme import COLORS, DIVERGING, band, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ROW = 24
"""Pixels of one token."""


def draw(table: pd.DataFrame, what: str, across: str, *, signed: bool = False) -> go.Figure:
    """One prompt as a map, several as the mean over prompts.

    Args:
        table: Lines of `token_maps`.
        what: The number that is shown.
        across: Title of the layer axis.
        signed: Whether 0 is the middle of the colours.
    """
    tokens = table[table["scope"] == "token"]
    if tokens["prompt"].nunique() == 1:
        return _map(tokens, what, across, signed)
    return _curve(table[table["scope"] == "prompts"], what, across)


def names_of(sites: list[str]) -> list[str]:
    """Short names for an axis: the block number, or ``embed``.

    >>> names_of(["embed", "blocks.0.resid_post", "blocks.1.attn_out"])
    ['embed', '0', '1']
    """
    return [site.split(".")[1] if site.startswith("blocks.") else site for site in sites]


def _map(tokens: pd.DataFrame, what: str, across: str, signed: bool) -> go.Figure:
    import plotly.graph_objects as go

    grid = tokens.pivot(index="position", columns="layer", values="value")
    own = tokens.drop_duplicates("position").sort_values("position")
    sites = list(tokens.drop_duplicates("layer").sort_values("layer")["site"])
    largest = float(tokens["value"].abs().max()) or 1.0
    lines = {(line.position, line.layer): line for line in tokens.itertuples()}
    hover = [[_cell(lines[p, n], what) for n in grid.columns] for p in grid.index]
    colors: dict[str, Any] = {"zmin": 0, "zmax": largest}
    if signed:
        scale = [[i / (len(DIVERGING) - 1), color] for i, color in enumerate(DIVERGING)]
        colors = {"zmin": -largest, "zmax": largest, "colorscale": scale, "autocolorscale": False}
    figure = go.Figure(
        go.Heatmap(
            x=list(range(len(sites))),
            y=list(range(len(own))),
            z=grid.to_numpy(),
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            xgap=1,
            ygap=1,
            colorbar=bar_below(what),
            **colors,
        )
    )
    step = -(-len(sites) // 16)
    figure.update_layout(
        height=ROW * len(own) + 150,
        xaxis={
            "title": across,
            "tickvals": list(range(0, len(sites), step)),
            "ticktext": names_of(sites)[::step],
            "side": "top",
            "showgrid": False,
        },
        yaxis=tokens_down(own["token"]),
    )
    return themed(mark_layers(figure, grid.columns, at=range(len(sites))))


def _cell(line: Any, what: str) -> str:
    text = f"<b>{plain(line.site)}</b>, {plain(repr(line.token))} (token {line.position})"
    text += f"<br>{what}: {line.value:.3g}"
    if hasattr(line, "drop") and line.drop == line.drop:
        text += f"<br>fall of the answer's probability: {line.drop:.3g}"
    return text


def _curve(lines: pd.DataFrame, what: str, across: str) -> go.Figure:
    import plotly.graph_objects as go

    x = lines["layer"]
    figure = go.Figure()
    if lines["ci_low"].notna().all():
        figure.add_scatter(
            **band(x, lines["ci_low"], lines["ci_high"], COLORS["value"]),
        )
    figure.add_scatter(
        x=x,
        y=lines["value"],
        mode="lines+markers",
        line={"color": COLORS["value"]},
        customdata=[
            f"<b>{plain(line['site'])}</b><br>{what}: {line['value']:.3g}"
            f"{spoken(line['ci_low'], line['ci_high'], '.3g')}<br>mean of {line['n']} prompts"
            for _, line in lines.iterrows()
        ],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    step = -(-len(lines) // 16)
    figure.update_layout(
        xaxis={
            "title": across,
            "tickvals": list(x[::step]),
            "ticktext": names_of(list(lines["site"]))[::step],
        },
        yaxis={"title": what, "rangemode": "tozero"},
    )
    return themed(mark_layers(figure, x))
