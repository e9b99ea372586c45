"""How the table of `sparsity` is drawn: active neurons, their energy, and how often each fires."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from layerscope.analyses.activity.sparsity_finding import OWN
from layerscope.theme import COLORS, DASHES, SEQUENCE, SEQUENTIAL, band, mark_layers, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.activity.sparsity_finding import SparsityFinding

_LEVELS = {0.0: "not zero", 0.01: "above 1 % of the rms", 0.1: "above 10 % of the rms"}
_PARTS = {
    "neurons": "neurons",
    "units": "units",
    "product": "gate times up",
    "gate": "gate",
    "up": "up",
}


def curves_and_rates(finding: SparsityFinding) -> go.Figure:
    """Two panels of curves by layer, and a map of firing rates."""
    from plotly.subplots import make_subplots

    level = 0.0 if finding.exact_zeros else 0.1
    fires = "not zero" if level == 0 else "> 10 % of rms"
    figure = make_subplots(
        rows=3,
        cols=1,
        vertical_spacing=0.13,
        row_heights=[0.28, 0.28, 0.44],
        subplot_titles=["", "", f"How often neurons fire ({fires})"],
    )
    places = _places(finding.curve("energy", 0.9))
    shown = [x for x in _LEVELS if x or finding.exact_zeros]
    for number, one in enumerate(shown):
        lines = finding.curve("active", one)
        _curve(figure, lines, places, _LEVELS[one], SEQUENCE[number], row=1, legend="legend")
    parts = [p for p in _PARTS if len(finding.curve("energy", 0.9, p))]
    for part in parts:
        lines = finding.curve("energy", 0.9, part)
        color = COLORS["value"] if part in OWN else SEQUENCE[2 + (part == "up")]
        _curve(figure, lines, places, _PARTS[part], color, row=2, legend="legend2")
    _reference(figure, finding.curve("energy", 0.9), places)
    if "twin" in finding.table:
        _legend(figure, "untrained twin", COLORS["twin"], DASHES["twin"], "legend")
    figure.add_trace(_rates(finding.curve("rate", level), places), row=3, col=1)
    _dress(figure, places)
    lines = finding.curve("energy", 0.9)
    if "layer" in lines:
        mark_layers(figure, lines["layer"], at=range(len(lines)))
    return themed(figure)


def _dress(figure: go.Figure, places: dict[str, Any]) -> None:
    ticks = {"tickvals": [*range(len(places))], "ticktext": [*places.values()]}
    if len(places) > 16:
        step = -(-len(places) // 16)
        ticks = {k: v[::step] for k, v in ticks.items()}
    spare = 0.5 if len(places) > 1 else 0.9
    for row in (1, 2, 3):
        bounds = [-spare, len(places) - 1 + spare]
        figure.update_xaxes(**ticks, range=bounds, row=row, col=1)
    figure.update_xaxes(title="layer", row=3, col=1)
    for row, title in ((1, "neurons active at a token"), (2, "neurons with 90 % of the energy")):
        figure.update_yaxes(title=title, tickformat=".0%", rangemode="tozero", row=row, col=1)
    figure.update_yaxes(title="fires at this share of the tokens", row=3, col=1)
    top, height = 96, 980
    figure.update_layout(title="", height=height, hovermode="closest", margin={"t": top, "b": 56})
    figure.update_annotations(x=0, xanchor="left", font_size=14)
    # On a narrow page a legend has four lines.
    for row, name in ((1, "legend"), (2, "legend2")):
        end = figure.layout["yaxis" if row == 1 else f"yaxis{row}"].domain[1]
        above = end + 6 / (height - top - 56)
        figure.update_layout({name: {"orientation": "h", "x": 0, "y": above, "yanchor": "bottom"}})
    figure.layout.annotations[0].update(yshift=4)


def _places(lines: pd.DataFrame) -> dict[str, Any]:
    """Site -> what its tick says, in order."""
    if "layer" in lines and lines["layer"].notna().all():
        return dict(zip(lines["site"], lines["layer"].astype(int).astype(str), strict=True))
    return {site: site for site in lines["site"]}


def _x(lines: pd.DataFrame, places: dict[str, Any]) -> list[int]:
    """Where the lines' layers stand; factors of a gated MLP stand at their layer."""
    order = list(places)
    by_tick = {tick: number for number, tick in enumerate(places.values())}
    return [
        order.index(line["site"]) if line["site"] in places else by_tick[str(line["layer"])]
        for _, line in lines.iterrows()
    ]


def _curve(
    figure: go.Figure,
    lines: pd.DataFrame,
    places: dict[str, Any],
    name: str,
    color: str,
    *,
    row: int,
    legend: str,
) -> None:
    x = _x(lines, places)
    if len(x) > 1 and lines["ci_low"].notna().all():
        figure.add_scatter(**band(x, lines["ci_low"], lines["ci_high"], color), row=row, col=1)
    if "twin" in lines:
        figure.add_scatter(
            x=x,
            y=lines["twin"],
            mode="lines",
            line={"color": color, "dash": DASHES["twin"], "width": 1.5},
            opacity=0.75,
            showlegend=False,
            customdata=[f"{name}, untrained twin: {v:.1%}" for v in lines["twin"]],
            hovertemplate="%{customdata}<extra></extra>",
            row=row,
            col=1,
        )
    figure.add_scatter(
        x=x,
        y=lines["value"],
        name=name,
        legend=legend,
        mode="lines+markers",
        line={"color": color},
        customdata=[_hover(line, name) for _, line in lines.iterrows()],
        hovertemplate="%{customdata}<extra></extra>",
        row=row,
        col=1,
    )


def _hover(line: pd.Series[Any], name: str) -> str:
    return (
        f"<b>{line['site']}</b>, {name}<br>{line['value']:.2%}"
        f"{spoken(line['ci_low'], line['ci_high'], '.2%')} of {line['width']:,}: "
        f"{line['count']:,.1f}{_first(line)}"
        f"<br>dense random numbers {line['baseline']:.2%}<br>n = {line['n']:,} tokens in "
        f"{line['n_groups']:,} groups"
    )


def _first(line: pd.Series[Any]) -> str:
    first = float(line.get("first", float("nan")))
    return "" if isnan(first) else f"<br>first token {first:.2%}"


def _reference(figure: go.Figure, lines: pd.DataFrame, places: dict[str, Any]) -> None:
    figure.add_scatter(
        x=[-0.5, len(places) - 0.5],
        y=[lines["baseline"].iloc[0]] * 2,
        name="dense random numbers",
        legend="legend2",
        mode="lines",
        line={"color": COLORS["baseline"], "dash": DASHES["baseline"], "width": 1.5},
        hovertemplate="normally distributed numbers: %{y:.1%}<extra></extra>",
        row=2,
        col=1,
    )


def _legend(figure: go.Figure, name: str, color: str, dash: str, legend: str) -> None:
    line = {"color": color, "dash": dash, "width": 1.5}
    figure.add_scatter(
        x=[None], y=[None], name=name, mode="lines", line=line, legend=legend, row=1, col=1
    )


def _rates(lines: pd.DataFrame, places: dict[str, Any]) -> go.Heatmap:
    import plotly.graph_objects as go

    cells = lines.assign(x=_x(lines, places), bin=[_bin(a, b) for a, b in _ends(lines)])
    names = list(dict.fromkeys(cells["bin"]))
    shares = cells.pivot(index="bin", columns="x", values="value").loc[names]
    counts = cells.pivot(index="bin", columns="x", values="count").loc[names]
    return go.Heatmap(
        z=shares.where(shares > 0).to_numpy(),
        x=list(shares.columns),
        y=names,
        customdata=counts.to_numpy(),
        hovertemplate="layer %{x}: %{customdata:,} neurons (%{z:.1%}) fire at %{y} of the tokens"
        "<extra></extra>",
        colorscale=list(SEQUENTIAL),
        autocolorscale=False,
        zmin=0,
        colorbar={"title": {"text": "neurons"}, "tickformat": ".0%", "len": 0.3, "y": 0.14},
        xgap=1,
        ygap=1,
    )


def _ends(lines: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(lines["low"], lines["high"], strict=True))


def _bin(low: float, high: float) -> str:
    if high == 0:
        return "never"
    return f"{100 * low:g} to {100 * high:g} %"
