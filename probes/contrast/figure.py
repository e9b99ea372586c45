"""How probes of contrasts are drawn: accuracy by layer, between chance and what labels would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, band, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_COLORS = {
    "value": COLORS["value"],
    "supervised": COLORS["good"],
    "twin": COLORS["twin"],
    "length": COLORS["control"],
    "null_mean": COLORS["baseline"],
}
_DASHES = {
    "value": DASHES["value"],
    "supervised": "longdash",
    "twin": DASHES["twin"],
    "length": DASHES["control"],
    "null_mean": DASHES["baseline"],
}
_ENDS = {
    "value": ("ci_low", "ci_high"),
    "supervised": ("supervised_low", "supervised_high"),
    "twin": ("twin_low", "twin_high"),
}


def curves(
    table: pd.DataFrame, *, title: str, names: Mapping[str, str], ticks: list[str] | None = None
) -> go.Figure:
    """One curve for each column of `names` that the table has, in its order.

    Args:
        table: One line per place on the axis.
        ticks: What stands below the places; None: their layers.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    shown = ticks or layer_ticks(table)
    for column, name in names.items():
        if column in table and table[column].notna().any():
            for trace in _curve(table, column, name):
                figure.add_trace(trace)
    figure.update_layout(
        title=title,
        xaxis={"title": "layer", "tickvals": list(range(len(shown))), "ticktext": shown},
        yaxis={"title": f"{table['unit'].iloc[0]} on held-out groups", "range": [0, 1.02]},
        hovermode="closest",
        margin={"t": 116},  # title and the lines of the legend on a narrow page
        height=480,
    )
    return themed(mark_layers(figure, table["layer"], at=range(len(table))))


def layer_ticks(table: pd.DataFrame) -> list[str]:
    """Layer numbers; sites by name where they have none, or share one."""
    if table["layer"].isna().any() or table["layer"].duplicated().any():
        return [plain(site) for site in table["site"]]
    return ["embed" if layer == -1 else str(layer) for layer in table["layer"]]


def _curve(table: pd.DataFrame, column: str, name: str) -> list[go.Scatter]:
    import plotly.graph_objects as go

    x, ends, color = list(range(len(table))), _ENDS.get(column), _COLORS[column]
    traces = []
    if column == "null_mean":
        low, high = (table["null_mean"] + sign * 2 * table["null_sd"] for sign in (-1, 1))
        traces.append(go.Scatter(**band(x, low, high, color, 0.15)))
    elif ends and len(x) > 1:
        opacity = 0.18 if column == "value" else 0.1
        traces.append(go.Scatter(**band(x, table[ends[0]], table[ends[1]], color, opacity)))
    line = go.Scatter(
        x=x,
        y=table[column],
        name=name,
        mode="lines+markers",
        line={"color": color, "dash": _DASHES[column]},
        marker={"size": 7 if column == "value" else 4},
        customdata=[_hover(line, column, name) for _, line in table.iterrows()],
        hovertemplate="%{customdata}<extra></extra>",
    )
    return [*traces, line]


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{name}: {line[column]:.3f}"
    ends = _ENDS.get(column)
    if column == "null_mean":
        text += f", standard deviation {line['null_sd']:.3f} (band: two)"
    elif ends and ends[0] in line:
        text += f" ({line[ends[0]]:.3f} to {line[ends[1]]:.3f})"
    if column == "value":
        text += f"<br>n = {line['n']:,} in {line['n_groups']:,} groups"
    return text
