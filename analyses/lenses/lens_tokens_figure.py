"""The token-by-layer picture: words in cells, colour for how likely the final prediction is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.grids import bar_below, tokens_down
from layerscope.analyses.material.pieces import shown
from layerscope.theme import mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MOST_COLUMNS = 13
"""More layers than this are thinned out evenly; words need room."""
ROW = 25
"""Pixels of one token."""


def grid(table: pd.DataFrame) -> go.Figure:
    """Tokens downwards in reading order, layers across."""
    import plotly.graph_objects as go

    layers = _thin(sorted(set(table["layer"])))
    part = table[table["layer"].isin(layers)]
    positions = sorted(set(part["position"]))
    cells = {(line.position, line.layer): line for line in part.itertuples()}
    rows = [[cells[position, layer] for layer in layers] for position in positions]
    figure = go.Figure(
        go.Heatmap(
            x=list(range(len(layers))),
            y=list(range(len(positions))),
            z=[[cell.final_probability for cell in row] for row in rows],
            text=[[_word(cell) for cell in row] for row in rows],
            customdata=[[_hover(cell) for cell in row] for row in rows],
            texttemplate="%{text}",
            hovertemplate="%{customdata}<extra></extra>",
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorbar=bar_below("probability of the final prediction", tickformat=".0%"),
        )
    )
    names = ["embed" if layer < 0 else str(layer) for layer in layers]
    figure.update_layout(
        height=ROW * len(positions) + 140,
        xaxis={
            "title": "likeliest next token, after block",
            "tickvals": list(range(len(layers))),
            "ticktext": names,
            "side": "top",
            "showgrid": False,
        },
        yaxis=tokens_down(row[0].token for row in rows),
    )
    return themed(mark_layers(figure, layers, at=range(len(layers))))


def _word(cell: Any) -> str:
    """The layer's prediction, bold where it is what the text goes on with."""
    word = plain(shown(cell.prediction))
    return f"<b>{word}</b>" if cell.prediction == cell.next else word


def _hover(cell: Any) -> str:
    listed = "<br>".join(plain(line) for line in cell.likeliest.split("\n"))
    final = f"{plain(repr(cell.final))}: {cell.final_probability:.1%}, rank {cell.final_rank}"
    text = f"<b>{plain(cell.site)}</b> after {plain(repr(cell.token))} (token {cell.position})"
    text += f"<br>{listed}<br>final prediction {final}"
    if cell.next is not None:
        text += f"<br>the text goes on with {plain(repr(cell.next))}: rank {cell.next_rank:.0f}"
    return f"{text}<br>KL(final || lens) {cell.kl_final_lens:.2f} nats"


def _thin(layers: list[int]) -> list[int]:
    """Evenly, with the first and the last."""
    if len(layers) <= MOST_COLUMNS:
        return layers
    last = len(layers) - 1
    chosen = {round(i * last / (MOST_COLUMNS - 1)) for i in range(MOST_COLUMNS)}
    return [layers[i] for i in sorted(chosen)]
