"""How a lens' table is drawn: three measures by layer, above one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.curves import curve, interval
from layerscope.theme import COLORS, DASHES, SEQUENCE, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PANELS = {
    "kl_final_lens": "KL(final || lens), in nats",
    "agreement": "top token is already the final one",
    "surprisal": "surprisal of the next token, in nats",
}
"""Measures that are drawn, and what stands above each panel."""
_BASELINE = "the same guess everywhere"
_TWIN = "untrained twin"


def curves(table: pd.DataFrame) -> go.Figure:
    """One panel for each measure; a line for each lens, with baseline and twin."""
    from plotly.subplots import make_subplots

    panels = [name for name in PANELS if (table["measure"] == name).any()]
    figure = make_subplots(
        rows=len(panels),
        shared_xaxes=True,
        vertical_spacing=0.09,
        subplot_titles=[PANELS[name] for name in panels],
    )
    for row, measure in enumerate(panels, 1):
        part = table[table["measure"] == measure]
        for trace in _traces(part, first=row == 1):
            figure.add_trace(trace, row=row, col=1)
    layers = sorted(set(table["layer"]))
    figure.update_xaxes(
        tickvals=_thin(layers), ticktext=["embed" if n < 0 else str(n) for n in _thin(layers)]
    )
    figure.update_xaxes(title="state after block", row=len(panels))
    figure.update_yaxes(rangemode="tozero")
    for row, measure in enumerate(panels, 1):
        if measure == "agreement":
            figure.update_yaxes(tickformat=".0%", range=[0, 1.04], row=row)
    # Panel titles are annotations; left they read like headings and never meet the legend.
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_layout(height=200 * len(panels) + 120, hovermode="closest", legend={"y": 1.05})
    return themed(mark_layers(figure, layers))


def _traces(part: pd.DataFrame, *, first: bool) -> list[Any]:
    import plotly.graph_objects as go

    traces: list[Any] = []
    lenses = list(dict.fromkeys(part["lens"]))
    for number, name in enumerate(lenses):
        lines = part[part["lens"] == name]
        color = SEQUENCE[number % len(SEQUENCE)]
        traces += interval(lines, "ci_low", "ci_high", color)
        traces.append(
            go.Scatter(**curve(lines, "value", f"{name} lens", color, "solid", _hover, named=first))
        )
        if "twin" in lines and lines["twin"].notna().any():
            traces += interval(lines, "twin_low", "twin_high", COLORS["twin"])
            traces.append(
                go.Scatter(
                    **curve(
                        lines, "twin", _TWIN, COLORS["twin"], DASHES["twin"], _hover, named=first
                    )
                )
            )
    level = part["baseline"].iloc[0]
    traces.append(
        go.Scatter(
            x=[part["layer"].min(), part["layer"].max()],
            y=[level, level],
            mode="lines",
            name=_BASELINE,
            showlegend=first,
            legendrank=2000,
            line={"color": COLORS["baseline"], "dash": DASHES["baseline"]},
            hovertemplate=f"{_BASELINE}: %{{y:.3g}}<extra></extra>",
        )
    )
    return traces


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    low, high = ("ci_low", "ci_high") if column == "value" else ("twin_low", "twin_high")
    text = f"<b>{plain(line['site'])}</b><br>{name}: {line[column]:.3g}"
    if line[low] == line[low]:
        text += f" ({line[low]:.3g} to {line[high]:.3g})"
    return f"{text}<br>n = {line['n']:,} tokens in {line['n_groups']:,} groups"


def _thin(layers: list[int]) -> list[int]:
    """At most about 16 of the layers, always the first."""
    step = -(-len(layers) // 16)
    return layers[::step]
