"""How the table of `attention_modes` is drawn: heads coloured by mode, and the spread in a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.activity.attention_modes_finding import MEANINGS
from layerscope.analyses.activity.attention_table import MODES
from layerscope.analyses.activity.head_counts import OCTAVES
from layerscope.theme import SEQUENCE, mark_layers, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.activity.attention_modes_finding import AttentionModesFinding

PAINT = {"I": SEQUENCE[4], "II": SEQUENCE[7], "III": SEQUENCE[6], "IV": SEQUENCE[1]}
"""Grey for heads that hardly choose, the warmest colour for those that pick a few keys."""
_ENDS = {"I": "over 1/2", "II": "1/8 to 1/2", "III": "1/32 to 1/8", "IV": "up to 1/32"}
MOST_WRITTEN = 16
"""Heads of a layer up to which each cell has its number."""
HALF = 0.44
"""Of the distance between two layers: the widest a violin may be."""
WIDER = 2
"""Bins for a factor of two in the violins; with few keys, finer ones fall between whole numbers."""


def modes_and_spread(finding: AttentionModesFinding) -> go.Figure:
    """A cell for each head, the same without sinks where there are sink heads, and violins."""
    from plotly.subplots import make_subplots

    heads = finding.heads()
    sinks = bool(heads["is_sink"].any())
    share = float(heads["baseline"].iloc[0])
    titles = [f"Visible keys that hold {100 * share:g} % of attention"]
    titles += ["The same without sinks"] if sinks else []
    titles += ["Queries by layer; dots: medians of heads"]
    tall = 34 * heads["layer"].nunique() + 20
    heights = [tall] * (1 + sinks) + [300]
    spaces = 70 + 40 * sinks
    whole = sum(heights) + spaces * len(heights[1:])
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        row_heights=heights,
        vertical_spacing=spaces / whole,
        subplot_titles=titles,
    )
    figure.add_trace(_grid(heads, "value", "mode", marked=True), row=1, col=1)
    if sinks:
        figure.add_trace(_grid(heads, "rest", "rest_mode", marked=False), row=2, col=1)
    for row in range(1, 2 + sinks):
        down = {"title": "layer", "autorange": "reversed", "dtick": _tick(heads)}
        figure.update_yaxes(**down, showgrid=False, row=row, col=1)
        across = {"title": "head", "dtick": _tick(heads, "head")}
        figure.update_xaxes(**across, showgrid=False, row=row, col=1)
    _violins(figure, finding, len(heights))
    for mode in MODES:
        figure.add_scatter(**_key(mode), row=1, col=1)
    if sinks:
        _explain_sinks(figure)
    top = 150
    figure.update_layout(
        title="",
        height=whole + top + 60,
        margin={"t": top, "b": 60},
        hovermode="closest",
        legend={"y": 1 + 8 / whole, "yanchor": "bottom", "yref": "paper"},
    )
    figure.update_annotations(x=0, xanchor="left")
    for number, note in enumerate(figure.layout.annotations[: len(heights)]):
        note.update(font={"size": 14}, yshift=6 if number else 92)
    mark_layers(figure, heads["layer"], *["y", "y2"][: 1 + sinks], f"x{len(heights)}")
    return themed(figure)


def _explain_sinks(figure: go.Figure) -> None:
    """What the mark in a cell means, above the map without sinks."""
    figure.add_annotation(
        text="○ sink head: much of its attention<br>is on the first position or special tokens",
        xref="paper",
        yref="paper",
        x=0,
        y=figure.layout.yaxis2.domain[1],
        yshift=26,
        align="left",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
    )


def _grid(heads: pd.DataFrame, value: str, mode: str, *, marked: bool) -> go.Heatmap:
    import plotly.graph_objects as go

    order = list(MODES)
    cells = heads.assign(
        z=[order.index(str(m)) for m in heads[mode]],
        words=[_words(line, value, marked) for _, line in heads.iterrows()],
        hover=[_hover(line) for _, line in heads.iterrows()],
    )
    z, words, hover = (
        cells.pivot(index="layer", columns="head", values=c) for c in ("z", "words", "hover")
    )
    few = heads["head"].nunique() <= MOST_WRITTEN
    return go.Heatmap(
        z=z.to_numpy(dtype=float),
        x=[int(x) for x in z.columns],
        y=[int(y) for y in z.index],
        text=words.fillna("").to_numpy(),
        texttemplate="%{text}" if few else None,
        textfont={"size": 11, "color": "#ffffff"},
        customdata=hover.fillna("").to_numpy(),
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=_steps(),
        autocolorscale=False,
        zmin=-0.5,
        zmax=3.5,
        showscale=False,
        xgap=2,
        ygap=2,
    )


def _steps() -> list[list[object]]:
    colors = list(PAINT.values())
    return [[(i + side) / 4, color] for i, color in enumerate(colors) for side in (0, 1)]


def _words(line: pd.Series[Any], value: str, marked: bool) -> str:
    share = float(line[value])
    told = f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
    return f"{told} ○" if marked and line["is_sink"] else told


def _hover(line: pd.Series[Any]) -> str:
    text = (
        f"<b>block {line['layer']}, head {line['head']:.0f}: mode {line['mode']}</b>, "
        f"{MEANINGS[str(line['mode'])]}<br>{line['k']:g} of {line['visible']:g} visible keys: "
        f"{line['value']:.1%}{spoken(line['ci_low'], line['ci_high'], '.1%')}<br>effective keys "
        f"(exp of the entropy) {line['effective']:.1f}<br>without sinks {line['rest']:.1%}, mode "
        f"{line['rest_mode']}<br>attention to sinks {line['sink_share']:.1%}, to itself "
        f"{line['self_share']:.1%}, to the token before {line['previous_share']:.1%}"
    )
    if "twin" in line:
        text += f"<br>untrained {line['twin']:.1%}, mode {line['twin_mode']}"
    return f"{text}<br>n = {line['n']:,} queries"


def _key(mode: str) -> dict[str, Any]:
    return {
        "x": [None],
        "y": [None],
        "mode": "markers",
        "name": f"{mode} {MEANINGS[mode]} ({_ENDS[mode]})",
        "marker": {"color": PAINT[mode], "size": 12, "symbol": "square"},
    }


def _violins(figure: go.Figure, finding: AttentionModesFinding, row: int) -> None:
    """For each layer how its queries spread, as a shape as wide as a share of them is common."""
    heads, lines = finding.heads(), finding.histogram()
    floor = 2.0**-OCTAVES
    upper = 2.0 ** (np.ceil(np.log2(lines["high"]) * WIDER) / WIDER)
    joined = lines.assign(high=upper, low=upper * 2 ** (-1 / WIDER))
    per_layer = joined.groupby(["layer", "low", "high"], as_index=False)["value"].sum()
    per_layer["value"] /= [float((heads["layer"] == x).sum()) for x in per_layer["layer"]]
    for layer, part in per_layer.groupby("layer"):
        most, low = float(part["value"].max()), part["low"].to_numpy()
        figure.add_bar(
            x=2 * HALF * part["value"] / most,
            y=np.sqrt(low * part["high"].to_numpy()),
            base=float(layer) - HALF * part["value"] / most,  # type: ignore[arg-type]
            width=(part["high"].to_numpy() - low) * 0.999,
            orientation="h",
            marker={"color": [PAINT[_mode(h)] for h in part["high"]], "line": {"width": 0}},
            customdata=[
                f"layer {layer}: {v:.1%} of the queries need {a:.1%} to {b:.1%} of their keys"
                for v, a, b in zip(part["value"], part["low"], part["high"], strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            row=row,
            col=1,
        )
    count = heads.groupby("layer")["head"].transform("count")
    shift = (heads.groupby("layer").cumcount() + 0.5) / count - 0.5
    figure.add_scatter(
        x=heads["layer"] + 0.7 * shift,
        y=np.maximum(heads["value"], floor),
        mode="markers",
        marker={"color": "#ffffff", "size": 7, "line": {"color": "#22262b", "width": 1.5}},
        customdata=[_hover(line) for _, line in heads.iterrows()],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
        row=row,
        col=1,
    )
    ticks = [1, 1 / 2, 1 / 8, 1 / 32, floor]
    names = ["all", "1/2", "1/8", "1/32", f"1/{2**OCTAVES}"]
    figure.update_yaxes(
        type="log",
        tickvals=ticks,
        ticktext=names,
        range=[np.log10(floor) - 0.08, 0.06],
        title="share of visible keys",
        row=row,
        col=1,
    )
    figure.update_xaxes(title="layer", dtick=_tick(heads), row=row, col=1)
    figure.update_layout(barmode="overlay")


def _mode(high: float) -> str:
    """The mode of a bin; thresholds are edges of bins."""
    return next(mode for mode, begins in MODES.items() if high > begins * 1.001)


def _tick(heads: pd.DataFrame, column: str = "layer") -> int:
    return max(1, round(float(heads[column].max() + 1) / 16))
