"""How codelengths are drawn: compression by layer, and bits per label against rows seen."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, band, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_NAMES = {
    "value": "label",
    "control": "control: random label per word",
    "twin": "label, untrained twin",
    "baseline": "class frequencies alone",
}
_RANK = {"value": 1, "control": 2, "twin": 3, "baseline": 4}
_INTERVALS = {
    "value": ("ci_low", "ci_high"),
    "control": ("control_low", "control_high"),
    "twin": ("twin_low", "twin_high"),
}


def layers_and_blocks(table: pd.DataFrame, best: str) -> go.Figure:
    """On top the compression of every site, below what each block cost at the best one."""
    from plotly.subplots import make_subplots

    whole = table[table["part"] == "code"]
    blocks = table[(table["part"] == "block") & (table["site"] == best)]
    uniform = log2(int(whole["n_classes"].iloc[0]))
    figure = make_subplots(
        rows=2,
        cols=1,
        vertical_spacing=0.2,
        subplot_titles=["", f"{plain(best)}, block by block"],
    )
    ticks = _ticks(whole)
    for column, name in _NAMES.items():
        if column in whole and whole[column].notna().any():
            for trace in _by_site(whole, ticks, column, name):
                figure.add_trace(trace, row=1, col=1)
            figure.add_trace(_by_block(blocks, column, name), row=2, col=1)
    figure.update_xaxes(
        title="layer", tickvals=list(range(len(ticks))), ticktext=ticks, row=1, col=1
    )
    figure.update_yaxes(title="compression (1: uniform)", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="rows seen before (log scale)", type="log", dtick=1, row=2, col=1)
    figure.update_yaxes(
        title=f"bits per label ({uniform:.2f}: uniform)", rangemode="tozero", row=2, col=1
    )
    figure.update_layout(
        title=f"Codelength of {plain(whole['label'].iloc[0])}, given a layer",
        height=760,
        hovermode="closest",
        margin={"t": 116},  # title and the lines of the legend on a narrow page
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    return themed(mark_layers(figure, whole["layer"], "x", at=range(len(whole))))


def _ticks(whole: pd.DataFrame) -> list[str]:
    """Layer numbers; sites by name where they have none, or share one."""
    if whole["layer"].isna().any() or whole["layer"].duplicated().any():
        return [plain(site) for site in whole["site"]]
    return ["embed" if layer == -1 else str(layer) for layer in whole["layer"]]


def _by_site(whole: pd.DataFrame, ticks: list[str], column: str, name: str) -> list[go.Scatter]:
    import plotly.graph_objects as go

    x, ends = list(range(len(ticks))), _INTERVALS.get(column)
    traces = []
    if ends and len(x) > 1:
        opacity = 0.18 if column == "value" else 0.1
        traces.append(
            go.Scatter(**band(x, whole[ends[0]], whole[ends[1]], COLORS[column], opacity))
        )
    hovers = [_site_hover(line, column, name) for _, line in whole.iterrows()]
    line = go.Scatter(x=x, y=whole[column], **_style(column, name, hovers), showlegend=True)
    return [*traces, line]


def _by_block(blocks: pd.DataFrame, column: str, name: str) -> go.Scatter:
    import plotly.graph_objects as go

    # A logarithm has no place for the first block, which is sent before any row is known.
    later = blocks[blocks["rows_seen"] > 0]
    hovers = [
        f"{name}<br>after {line['rows_seen']:,.0f} rows: {line[column]:.3f} bits a label"
        for _, line in later.iterrows()
    ]
    style = _style(column, name, hovers)
    return go.Scatter(x=later["rows_seen"], y=later[column], **style, showlegend=False)


def _style(column: str, name: str, hovers: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "legendgroup": name,
        "legendrank": _RANK[column],
        "mode": "lines" if column == "baseline" else "lines+markers",
        "line": {"color": COLORS[column], "dash": DASHES[column]},
        "marker": {"size": 7 if column == "value" else 4},
        "customdata": hovers,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _site_hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{name}: compression {line[column]:.3f}"
    ends = _INTERVALS.get(column)
    if ends:
        text += f" ({line[ends[0]]:.3f} to {line[ends[1]]:.3f})"
    if column == "value":
        text += (
            f"<br>{line['bits_per_label']:.3f} bits a label, {line['bits']:,.0f} in all"
            f"<br>accuracy on the last block {line['accuracy']:.3f}"
            f"<br>n = {line['n']:,} in {line['n_groups']:,} groups"
        )
    return text
