"""How `parallel_windows` is drawn: one cell for each window of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import SEQUENTIAL, mark_layers, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


SMALLEST = 1e-4
"""Colours do not tell smaller numbers apart."""


def windows_map(table: pd.DataFrame) -> go.Figure:
    """KL of every window; below it that of random changes of the same size."""
    from plotly.subplots import make_subplots

    titles = (
        "The blocks of the window side by side",
        "Control: the stream moved as far, in a random direction",
    )
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.2, subplot_titles=titles)
    for row, column in enumerate(("value", "control"), 1):
        figure.add_trace(_cells(table, column, bar=row == 1), row=row, col=1)
    tick = max(1, round(float(table["layer"].max() + 1) / 16))
    figure.update_xaxes(title="first block of the window", dtick=tick)
    figure.update_yaxes(title="blocks in the window", dtick=1)
    figure.update_layout(title="", height=640, margin={"t": 44})
    figure.update_annotations(x=0, xanchor="left", font_size=14)
    return themed(mark_layers(figure, table["layer"]))


def _cells(table: pd.DataFrame, column: str, *, bar: bool) -> go.Heatmap:
    import numpy as np
    import plotly.graph_objects as go

    cells = table.pivot(index="blocks", columns="layer", values=column)
    texts = table.assign(text=[_hover(line) for _, line in table.iterrows()])
    return go.Heatmap(
        z=np.log10(np.maximum(cells.to_numpy(dtype=float), SMALLEST)),
        x=list(cells.columns),
        y=list(cells.index),
        customdata=texts.pivot(index="blocks", columns="layer", values="text")
        .fillna("")
        .to_numpy(),
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=list(SEQUENTIAL),
        autocolorscale=False,
        zmin=np.log10(SMALLEST),
        zmax=1,
        showscale=bar,
        colorbar={
            "title": {"text": "KL, nats", "side": "right"},
            "tickvals": [-4, -3, -2, -1, 0, 1],
            "ticktext": ["0.0001", "0.001", "0.01", "0.1", "1", "10"],
        },
        xgap=1,
        ygap=1,
        name="window" if bar else "control",
    )


def _hover(line: pd.Series[Any]) -> str:
    last = line["layer"] + line["blocks"] - 1
    return (
        f"<b>blocks {line['layer']} to {last} side by side</b><br>KL {line['value']:.4g} nats{spoken(line['ci_low'], line['ci_high'], '.4g')}, control {line['control']:.4g}"
        f"<br>loss {line['loss']:+.4g} nats/token<br>stream after the window off by "
        f"{line['moved']:.1%} of what the window adds<br>(to first order {line['predicted']:.1%})"
    )
