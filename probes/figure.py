"""How a probe's table is drawn: value above control, baseline and twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.probes.finding import DEFAULTS, kind_of
from layerscope.theme import COLORS, DASHES, SEQUENCE, band, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_NAMES = {
    "value": "probe",
    "control": "control: random label per word",
    "twin": "untrained twin",
    "baseline": "majority class",
}
_RANK = {"value": 1, "control": 2, "twin": 3, "baseline": 4}
_INTERVALS = {
    "value": ("ci_low", "ci_high"),
    "control": ("control_low", "control_high"),
    "twin": ("twin_low", "twin_high"),
}


def curves(table: pd.DataFrame) -> go.Figure:
    """One line per kind of site, by layer, with the interval as a band."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for trace in traces(table):
        figure.add_scatter(**trace)
    figure.update_layout(
        title=f"{plain(table['label'].iloc[0])} by layer",
        xaxis=layer_axis(table),
        yaxis={"title": _axis_title(table), "rangemode": "tozero"},
        hovermode="closest",
    )
    return themed(mark_layers(figure, table["layer"]))


def layer_axis(table: pd.DataFrame) -> dict[str, Any]:
    """The x axis: layers, or sites in their order where they have none."""
    ticks = _places(table)[1]
    return {"title": "layer", "tickvals": list(ticks), "ticktext": list(ticks.values())}


def traces(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Arguments of the `go.Scatter`s of one label."""
    drawn: list[dict[str, Any]] = []
    places, _ = _places(table)
    kinds = table["site"].map(kind_of)
    by_layer = bool(table["layer"].notna().all())
    shown = list(dict.fromkeys(kinds)) if by_layer else [None]
    for number, kind in enumerate(shown):
        chosen = kinds == kind if kind is not None else kinds.notna()
        part, x = table[chosen], places[chosen]
        color = COLORS["value"] if len(shown) == 1 else SEQUENCE[number % len(SEQUENCE)]
        name = reader(table) if len(shown) == 1 else str(kind)
        drawn += _band(part, x, "value", color)
        for column in ("twin", "control"):
            if column in part and part[column].notna().any():
                own = COLORS[column] if len(shown) == 1 else color
                label = _NAMES[column] if number == 0 else None
                drawn += _band(part, x, column, own, opacity=0.1)
                drawn.append(_line(part, x, column, own, label))
        drawn.append(_line(part, x, "value", color, name))
    return [*drawn, _baseline(table, places)]


def bars(table: pd.DataFrame) -> go.Figure:
    """A single site: its value beside what it is to be held against."""
    import plotly.graph_objects as go

    line = table.iloc[0]
    columns = [c for c in ("baseline", "twin", "control", "value") if c in table]
    columns = [c for c in columns if table[c].notna().iloc[0] and (c != "baseline" or line[c])]
    figure = go.Figure(
        go.Bar(
            x=[line[c] for c in columns],
            y=[reader(table) if c == "value" else _NAMES[c] for c in columns],
            orientation="h",
            marker={"color": [COLORS[c] for c in columns]},
            error_x=_errors(line, columns),
            text=[f"{line[c]:.3f}" for c in columns],
            textposition="inside",
            insidetextanchor="start",
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"{plain(line['label'])} at {plain(line['site'])}",
        xaxis={"title": _axis_title(table), "rangemode": "tozero"},
        yaxis={"automargin": True},
    )
    return themed(figure)


def reader(table: pd.DataFrame) -> str:
    """What the probe is called in legends: its estimator, unless it is the default one."""
    estimator = str(table["estimator"].iloc[0])
    return _NAMES["value"] if estimator in DEFAULTS else plain(estimator)


def _places(table: pd.DataFrame) -> tuple[pd.Series[Any], dict[Any, str]]:
    """Where each line is on the layer axis, and the axis' labels."""
    import pandas as pd

    if table["layer"].notna().all():
        places = table["layer"].astype(int)
        return places, {n: "embed" if n < 0 else str(n) for n in sorted(set(places))}
    places = pd.Series(range(len(table)), index=table.index)
    return places, dict(zip(places, map(plain, table["site"]), strict=True))


def _line(
    part: pd.DataFrame, x: pd.Series[Any], column: str, color: str, name: str | None
) -> dict[str, Any]:
    low, high = _INTERVALS[column]
    return {
        "x": x,
        "y": part[column],
        "name": name,
        "showlegend": name is not None,
        "legendrank": _RANK[column],
        "mode": "lines+markers",
        "line": {"color": color, "dash": DASHES[column]},
        "marker": {"size": 7 if column == "value" else 4},
        "customdata": [_hover(line, column, low, high) for _, line in part.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(line: pd.Series[Any], column: str, low: str, high: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{_NAMES[column]}: {line[column]:.3f}"
    if low in line:
        text += f" ({line[low]:.3f} to {line[high]:.3f})"
    if column == "value":
        if "selectivity" in line:
            text += f"<br>selectivity {line['selectivity']:.3f}"
        if "balanced" in line:
            text += f"<br>balanced accuracy {line['balanced']:.3f}"
        text += f"<br>n = {line['n']:,} in {line['n_groups']:,} groups"
    return text


def _band(
    part: pd.DataFrame, x: pd.Series[Any], column: str, color: str, opacity: float = 0.18
) -> list[dict[str, Any]]:
    low, high = _INTERVALS[column]
    if low not in part or len(part) < 2:
        return []
    return [band(x, part[low], part[high], color, opacity)]


def _baseline(table: pd.DataFrame, places: pd.Series[Any]) -> dict[str, Any]:
    value = table["baseline"].iloc[0]
    name = _NAMES["baseline"] if table["unit"].iloc[0] == "accuracy" else "predicting the mean"
    return {
        "x": [places.min(), places.max()],
        "y": [value, value],
        "name": name,
        "legendrank": _RANK["baseline"],
        "mode": "lines",
        "line": {"color": COLORS["baseline"], "dash": DASHES["baseline"]},
        "hovertemplate": f"{name}: %{{y:.3f}}<extra></extra>",
    }


def _errors(line: pd.Series[Any], columns: list[str]) -> dict[str, Any]:
    ends = [_INTERVALS.get(c, ("", "")) for c in columns]
    pairs = list(zip(columns, ends, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "color": COLORS["baseline"],  # seen on light and dark alike
        "array": [line[high] - line[c] if high in line else 0 for c, (_, high) in pairs],
        "arrayminus": [line[c] - line[low] if low in line else 0 for c, (low, _) in pairs],
    }


def _axis_title(table: pd.DataFrame) -> str:
    accuracy = table["unit"].iloc[0] == "accuracy"
    return "accuracy on held-out groups" if accuracy else "R² on held-out groups"
