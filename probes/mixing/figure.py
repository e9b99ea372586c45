"""How mixes of layers and poolings of tokens are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.probes.contrast.figure import layer_ticks
from layerscope.theme import COLORS, DASHES, SEQUENCE, band, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_PARTS = {
    "mix": ("mix", SEQUENCE[5], "solid"),
    "concat": ("all layers side by side", SEQUENCE[2], "longdash"),
    "mean": ("plain mean of layers", SEQUENCE[6], "dashdot"),
}

_HUES = tuple(color for color in SEQUENCE if color != COLORS["baseline"])
"""Grey is for what values are held against."""


def weights_and_scores(table: pd.DataFrame) -> go.Figure:
    """Bars of weights on top; below, scores of single layers with lines for what joins them."""
    from plotly.subplots import make_subplots

    layers = table[table["part"] == "layer"].reset_index(drop=True)
    ticks = layer_ticks(layers)
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.26, row_heights=[0.42, 0.58])
    figure.add_trace(_weights(layers), row=1, col=1)
    equal = 1 / len(layers)
    figure.add_hline(
        equal, row=1, col=1, line={"color": COLORS["baseline"], "dash": DASHES["baseline"]}
    )
    for trace in _scores(table, layers):
        figure.add_trace(trace, row=2, col=1)
    axis = {"title": "layer", "tickvals": list(range(len(ticks))), "ticktext": ticks}
    axis |= {"range": [-0.5, len(ticks) - 0.5]}
    figure.update_xaxes(**axis, row=1, col=1)
    figure.update_xaxes(**axis, row=2, col=1)
    figure.update_yaxes(title="weight (dotted: equal)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title=_measure(table), rangemode="tozero", row=2, col=1)
    figure.update_layout(
        title=f"Where a mix of layers reads {plain(layers['label'].iloc[0])}",
        height=720,
        hovermode="closest",
        # Between the panels, where it belongs to the lower one.
        legend={"y": 0.44, "yanchor": "bottom"},
    )
    return themed(mark_layers(figure, layers["layer"], at=range(len(layers))))


def _weights(layers: pd.DataFrame) -> go.Bar:
    import plotly.graph_objects as go

    hovers = [
        f"<b>{plain(line['site'])}</b><br>weight {line['weight']:.3f}, over folds "
        f"{line['weight_low']:.3f} to {line['weight_high']:.3f}"
        for _, line in layers.iterrows()
    ]
    return go.Bar(
        x=list(range(len(layers))),
        y=layers["weight"],
        showlegend=False,
        marker={"color": COLORS["value"]},
        error_y={
            "type": "data",
            "symmetric": False,
            "color": COLORS["baseline"],
            "array": layers["weight_high"] - layers["weight"],
            "arrayminus": layers["weight"] - layers["weight_low"],
        },
        customdata=hovers,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _scores(table: pd.DataFrame, layers: pd.DataFrame) -> list[go.Scatter]:
    import plotly.graph_objects as go

    x = list(range(len(layers)))
    hovers = [
        f"<b>{plain(line['site'])}</b> alone<br>{line['value']:.3f} ({line['ci_low']:.3f} to "
        f"{line['ci_high']:.3f})"
        for _, line in layers.iterrows()
    ]
    traces = [
        go.Scatter(**band(x, layers["ci_low"], layers["ci_high"], COLORS["value"])),
        go.Scatter(
            x=x,
            y=layers["value"],
            name="one layer alone",
            mode="lines+markers",
            line={"color": COLORS["value"]},
            customdata=hovers,
            hovertemplate="%{customdata}<extra></extra>",
        ),
    ]
    ends = [-0.5, len(layers) - 0.5]
    for part, (name, color, dash) in _PARTS.items():
        lines = table[table["part"] == part]
        if len(lines):
            traces.append(_level(lines.iloc[0], ends, name, color, dash))
    mix = table[table["part"] == "mix"].iloc[0]
    for column, name in (("control", "mix, random labels"), ("twin", "mix, untrained twin")):
        if column in mix and mix[column] == mix[column]:
            line = {"value": mix[column]}
            line |= {"ci_low": mix[f"{column}_low"], "ci_high": mix[f"{column}_high"]}
            traces.append(_level(line, ends, name, COLORS[column], DASHES[column]))
    return traces


def _level(line: Any, ends: list[float], name: str, color: str, dash: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=ends,
        y=[line["value"]] * 2,
        name=name,
        mode="lines",
        line={"color": color, "dash": dash},
        customdata=[f"{name}: {line['value']:.3f} ({line['ci_low']:.3f} to {line['ci_high']:.3f})"]
        * 2,
        hovertemplate="%{customdata}<extra></extra>",
    )


def poolings(table: pd.DataFrame) -> go.Figure:
    """A curve over layers for each way to pool, above the majority and random labels."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(dict.fromkeys(table["pooling"]))
    first = table[table["pooling"] == names[0]].reset_index(drop=True)
    ticks = layer_ticks(first)
    x = list(range(len(ticks)))
    for number, name in enumerate(names):
        lines, color = table[table["pooling"] == name], _HUES[number % len(_HUES)]
        if len(x) > 1:
            figure.add_trace(go.Scatter(**band(x, lines["ci_low"], lines["ci_high"], color, 0.1)))
        figure.add_trace(_pooling(lines, x, name, color))
    chance = table.groupby("site", sort=False)["control"].mean() if "control" in table else None
    if chance is not None and chance.notna().any():
        figure.add_trace(
            _flat(x, list(chance), "random labels", COLORS["other"], DASHES["control"])
        )
    base = [float(table["baseline"].iloc[0])] * len(x)
    name = "majority class" if table["unit"].iloc[0] == "accuracy" else "predicting the mean"
    figure.add_trace(_flat(x, base, name, COLORS["baseline"], DASHES["baseline"]))
    figure.update_layout(
        title=f"{plain(table['label'].iloc[0])} of texts, by layer and pooling",
        xaxis={"title": "layer", "tickvals": x, "ticktext": ticks},
        yaxis={"title": _measure(table), "rangemode": "tozero"},
        hovermode="closest",
        height=500,
        margin={"t": 116},  # title and the lines of the legend on a narrow page
    )
    return themed(mark_layers(figure, first["layer"], at=x))


def _pooling(lines: pd.DataFrame, x: list[int], name: str, color: str) -> go.Scatter:
    import plotly.graph_objects as go

    hovers = []
    for _, line in lines.iterrows():
        text = f"<b>{plain(line['site'])}</b>, {name}<br>{line['value']:.3f} ({line['ci_low']:.3f} "
        text += f"to {line['ci_high']:.3f})"
        if line["gain"] == line["gain"]:
            text += f"<br>{line['gain']:+.3f} against the last token ({line['gain_low']:+.3f} to "
            text += f"{line['gain_high']:+.3f})"
        hovers.append(text)
    return go.Scatter(
        x=x,
        y=lines["value"],
        name=name,
        mode="lines+markers",
        line={"color": color},
        customdata=hovers,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _flat(x: list[int], y: list[float], name: str, color: str, dash: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=x,
        y=y,
        name=name,
        mode="lines",
        line={"color": color, "dash": dash, "width": 1.5},
        hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
    )


def _measure(table: pd.DataFrame) -> str:
    accuracy = table["unit"].iloc[0] == "accuracy"
    return "accuracy on held-out groups" if accuracy else "R² on held-out groups"
