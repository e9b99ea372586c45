"""How the table of several labels is drawn: a panel for each, or one line each at a single site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layerscope.probes.figure import layer_axis, reader, traces
from layerscope.theme import COLORS, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_MARKS = {
    "baseline": ("line-ns-open", "majority class, or predicting the mean"),
    "twin": ("diamond-open", "untrained twin"),
    "control": ("x-thin-open", "control: random label per word"),
}


def label_panels(by_label: Mapping[str, pd.DataFrame]) -> go.Figure:
    """One panel for each label, layers below each other."""
    from plotly.subplots import make_subplots

    titles = [f"{plain(label)} ({_unit(table)})" for label, table in by_label.items()]
    rows = len(by_label)
    figure = make_subplots(
        rows=rows,
        cols=1,
        shared_xaxes=True,
        subplot_titles=titles,
        vertical_spacing=min(0.1, 0.3 / rows),
    )
    named: set[str] = set()
    for row, table in enumerate(by_label.values(), 1):
        for trace in traces(table):
            name = trace.get("name")
            if name:
                trace |= {"legendgroup": name, "showlegend": name not in named}
                named.add(name)
            figure.add_scatter(**trace, row=row, col=1)
    axis = layer_axis(next(iter(by_label.values())))
    figure.update_xaxes(tickvals=axis["tickvals"], ticktext=axis["ticktext"])
    figure.update_xaxes(title="layer", row=rows, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_layout(
        title="Labels by layer, on held-out groups",
        height=130 + 210 * rows,
        hovermode="closest",
        margin={"t": 110},  # title and two lines of legend, on a narrow page
        legend={"y": 1 + 30 / (210 * rows)},
    )
    first = next(iter(by_label.values()))
    return themed(mark_layers(figure, first["layer"]))


def label_dots(table: pd.DataFrame) -> go.Figure:
    """One site: for each label its score with the interval, and what it is to be held against."""
    import plotly.graph_objects as go

    names = [f"{plain(line['label'])} ({_unit(table.loc[[i]])})" for i, line in table.iterrows()]
    figure = go.Figure()
    for column, (symbol, name) in _MARKS.items():
        if column in table and table[column].notna().any():
            figure.add_scatter(
                x=table[column],
                y=names,
                name=name,
                mode="markers",
                marker={
                    "symbol": symbol,
                    "color": COLORS[column],
                    "size": 11,
                    "line": {"width": 2, "color": COLORS[column]},
                },
                hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
            )
    figure.add_scatter(**_values(table, names))
    figure.update_layout(
        title=f"Labels at {plain(table['site'].iloc[0])}",
        xaxis={"title": "score on held-out groups", "rangemode": "tozero"},
        yaxis={"automargin": True, "autorange": "reversed", "type": "category"},
        height=190 + 44 * len(table),
        margin={"t": 100},
    )
    return themed(figure)


def _values(table: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    return {
        "x": table["value"],
        "y": names,
        "name": reader(table),
        "mode": "markers",
        "marker": {"color": COLORS["value"], "size": 10},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": table["ci_high"] - table["value"],
            "arrayminus": table["value"] - table["ci_low"],
        },
        "customdata": [
            f"{plain(line['label'])}: {line['value']:.3f} ({line['ci_low']:.3f} to "
            f"{line['ci_high']:.3f})<br>n = {line['n']:,} in {line['n_groups']:,} groups"
            for _, line in table.iterrows()
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _unit(table: pd.DataFrame) -> str:
    return "accuracy" if table["unit"].iloc[0] == "accuracy" else "R²"
