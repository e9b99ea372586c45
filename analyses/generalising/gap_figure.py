"""How the table of `generalisation_gap` is drawn: dots per layer, then what ranks the gap and how well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.generalising.gap_table import BASELINES, INFORMATION
from layerscope.theme import COLORS, SEQUENCE, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.generalising.gap_finding import GeneralisationGapFinding

LAYERS = 4
"""Dots are drawn for so many layers, evenly taken."""
RANKED = (
    "mc_given_label",
    "jensen_given_label",
    "binned_given_label",
    "weights_jensen",
    "sum_jensen",
    "sum_scaled",
    *BASELINES,
)
_SHADES = ("#5b5ea6", "#c0699a", "#9a7d0a")


def panels(
    finding: GeneralisationGapFinding, measure: str, colour: str | None, settings: Sequence[str]
) -> go.Figure:
    """Scatter of up to four layers; correlations of every measure; correlation by sigma."""
    from plotly.subplots import make_subplots

    lines = finding.networks(measure)
    scope = _scope(finding)
    layers = _taken(lines)
    ranked = finding.correlation(scope=scope)
    shown = [name for name in RANKED if (ranked["measure"] == name).any()]
    rows = max(1, (len(layers) + 1) // 2)
    heights = [230] * rows + [60 + 38 * len(shown), 220]
    total = sum(heights) + 92 * len(heights) + 150
    sites = lines.drop_duplicates("layer").set_index("layer")["site"]
    taus = {place: line["value"] for place, line in _by_layer(ranked, measure).items()}
    titles = [f"{plain(sites.get(layer, ''))} τ {taus[layer]:.2f}" for layer in layers]
    titles += [""] * (2 * rows - len(titles))
    words = {"all": "", "same data set": ", same data set"}[scope]
    figure = make_subplots(
        rows=rows + 2,
        cols=2,
        specs=[*([[{}, {}]] * rows), [{"colspan": 2}, None], [{"colspan": 2}, None]],
        row_heights=[h / sum(heights) for h in heights],
        vertical_spacing=92 / (total - 270),
        horizontal_spacing=0.12,
        subplot_titles=[
            *titles,
            f"Rank correlation with the gap{words}",
            "I(X;Z|Y), mc, with one sigma for all",
        ],
    )
    colour = _coloured(lines, colour, settings)
    _dots(figure, lines, layers, measure, colour)
    named = 1 if colour is None else lines[colour].nunique()
    _ranking(figure, finding, ranked, shown, rows + 1, scope)
    _swept(figure, finding.table, scope, rows + 2)
    figure.update_layout(
        title={"text": "Information kept and the gap", "y": 0.99, "yanchor": "top"},
        height=total,
        hovermode="closest",
        margin={"t": 72 + 24 * named, "l": 70, "b": 150},
        legend={"y": 1 - 44 / total, "yref": "container", "yanchor": "top"},
        legend2={"orientation": "h", "x": 0, "y": -56 / (total - 270), "yanchor": "top"},
    )
    figure.update_annotations(font_size=13)
    return themed(figure)


def _scope(finding: GeneralisationGapFinding) -> str:
    there = finding.table["scope"].unique()
    return "same data set" if "same data set" in there else "all"


def _by_layer(ranked: pd.DataFrame, measure: str) -> dict[Any, pd.Series[Any]]:
    """Layer -> its line; 0 for a measure of the whole network."""
    lines = ranked[ranked["measure"] == measure]
    return {0 if line["site"] == "" else line["layer"]: line for _, line in lines.iterrows()}


def _taken(lines: pd.DataFrame) -> list[Any]:
    """Layers that are drawn, the first and the last among them; a whole-network measure has none."""
    layers = sorted(lines["layer"].dropna().unique())
    if not layers:
        return [0]
    at = np.unique(np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int))
    return [layers[i] for i in at]


def _coloured(lines: pd.DataFrame, colour: str | None, settings: Sequence[str]) -> str | None:
    """The setting that colours the dots: the one asked for, else the first of few values."""
    if colour is not None:
        if colour not in settings:
            raise LookupError(f"no setting {colour!r}; there are {', '.join(settings) or 'none'}")
        return colour
    few = [name for name in settings if 2 <= lines[name].nunique() <= len(SEQUENCE)]
    return few[0] if few else None


def _dots(
    figure: go.Figure,
    lines: pd.DataFrame,
    layers: list[Any],
    measure: str,
    colour: str | None,
) -> None:
    unit = str(lines["unit"].iloc[0])
    name = (INFORMATION | BASELINES)[measure]
    for number, layer in enumerate(layers):
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        part = lines[lines["layer"] == layer] if lines["layer"].notna().any() else lines
        groups = [("networks", part)] if colour is None else list(part.groupby(colour))
        for shade, (value, group) in zip(SEQUENCE * 8, groups, strict=False):
            said = "networks" if colour is None else f"{colour.replace('_', ' ')} {value}"
            figure.add_scatter(
                x=group["value"],
                y=group["gap_loss"],
                mode="markers",
                name=plain(said),
                legendgroup=plain(said),
                showlegend=number == 0,
                marker={"color": shade, "size": 6, "opacity": 0.65},
                customdata=[_hover(line, name, unit) for _, line in group.iterrows()],
                hovertemplate="%{customdata}<extra></extra>",
                **place,
            )
        figure.update_xaxes(title=f"{name} ({unit})" if unit else name, **place)
    for row in range(1, (len(layers) + 1) // 2 + 1):
        figure.update_yaxes(title="gap (nats)", row=row, col=1)


def _hover(line: pd.Series[Any], name: str, unit: str) -> str:
    text = f"<b>network {line['network']}</b>, seed {line['seed']}<br>{name}: {line['value']:.4g} {unit}"
    if line["sigma"] == line["sigma"]:
        text += f"<br>sigma {line['sigma']:g}"
    if line["ceiling"] < np.inf:
        text += f", ceiling {line['ceiling']:.2f}"
    text += f"<br>gap {line['gap_loss']:.3f} nats"
    if line["gap_error"] == line["gap_error"]:
        text += f", {line['gap_error']:.1%} of rows"
    return text + f"<br>train loss {line['train_loss']:.3f}, test loss {line['test_loss']:.3f}"


def _ranking(
    figure: go.Figure,
    finding: GeneralisationGapFinding,
    ranked: pd.DataFrame,
    shown: list[str],
    row: int,
    scope: str,
) -> None:
    """A dot and its interval for each measure and layer, beside where chance would put it."""
    layers = sorted(ranked["layer"].dropna().unique())
    every = finding.correlation(scope="all") if scope != "all" else None
    named: set[str] = set()
    for place, measure in enumerate(shown):
        part = ranked[ranked["measure"] == measure].sort_values("layer")
        gaps = np.linspace(-0.27, 0.27, len(part)) if len(part) > 1 else np.zeros(1)
        for offset, (_index, line) in zip(gaps, part.iterrows(), strict=True):
            known = line["site"] != ""
            color = _shade(layers, line["layer"]) if known else COLORS["value"]
            name = plain(line["site"]) if known else "whole network"
            marks = [_chance(line), _dot(line, color, name)]
            if every is not None:
                same = (every["measure"] == measure) & (every["site"] == line["site"])
                marks.append(_hollow(every.loc[same].iloc[0], color))
            for mark in marks:
                group = mark["legendgroup"]
                mark["y"] = [place + offset] * len(mark["x"])
                figure.add_scatter(
                    **mark, legend="legend2", showlegend=group not in named, row=row, col=1
                )
                named.add(group)
    names = INFORMATION | BASELINES
    figure.update_yaxes(
        tickvals=list(range(len(shown))),
        ticktext=[names[name].replace(" + ", " +<br>") for name in shown],
        range=[len(shown) - 0.4, -0.6],
        row=row,
        col=1,
    )
    figure.update_xaxes(title="Kendall's tau", range=[-1.02, 1.02], row=row, col=1)


def _chance(line: pd.Series[Any]) -> dict[str, Any]:
    return {
        "x": [2 * line["null_sd"], -2 * line["null_sd"]],
        "mode": "lines",
        "line": {"color": COLORS["baseline"], "width": 5},
        "opacity": 0.3,
        "name": "chance (± 2 sd)",
        "legendgroup": "chance",
        "legendrank": 2000,
        "hoverinfo": "skip",
    }


def _dot(line: pd.Series[Any], color: str, name: str) -> dict[str, Any]:
    return {
        "x": [line["value"]],
        "mode": "markers",
        "marker": {"color": color, "size": 7},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [line["ci_high"] - line["value"]],
            "arrayminus": [line["value"] - line["ci_low"]],
            "width": 0,
            "thickness": 1.5,
        },
        "name": name,
        "legendgroup": name,
        "customdata": [_told(line)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hollow(line: pd.Series[Any], color: str) -> dict[str, Any]:
    return {
        "x": [line["value"]],
        "mode": "markers",
        "marker": {"color": color, "size": 7, "symbol": "circle-open"},
        "name": "hollow: all networks",
        "legendgroup": "hollow",
        "legendrank": 1900,
        "customdata": [_told(line)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _told(line: pd.Series[Any]) -> str:
    where = f" at {line['site']}" if line["site"] else ""
    text = f"<b>{(INFORMATION | BASELINES)[line['measure']]}{plain(where)}</b><br>{line['scope']}: "
    text += f"{line['value']:.3f}{spoken(line['ci_low'], line['ci_high'], '.3f')}"
    return text + (
        f"<br>chance {line['null_mean']:.3f} ± {line['null_sd']:.3f}, p = {line['p']:.3f}"
        f"<br>{line['n']} networks, {line['pairs']:,} pairs"
    )


def _swept(figure: go.Figure, table: pd.DataFrame, scope: str, row: int) -> None:
    lines = table[(table["part"] == "sweep") & (table["scope"] == scope)]
    layers = sorted(lines["layer"].unique())
    for layer in layers:
        part = lines[lines["layer"] == layer].sort_values("sigma")
        name = plain(part["site"].iloc[0])
        figure.add_scatter(
            x=part["sigma"],
            y=part["value"],
            mode="lines+markers",
            line={"color": _shade(layers, layer), "width": 1.75},
            marker={"size": 4},
            name=name,
            legendgroup=name,
            showlegend=False,
            customdata=[_told(line) for _, line in part.iterrows()],
            hovertemplate="sigma %{x:g}<br>%{customdata}<extra></extra>",
            row=row,
            col=1,
        )
    figure.update_xaxes(
        type="log",
        title="sigma of the encoder",
        tickvals=[0.01, 0.1, 1, 10],
        ticktext=["0.01", "0.1", "1", "10"],
        row=row,
        col=1,
    )
    figure.update_yaxes(title="Kendall's tau", rangemode="tozero", row=row, col=1)


def _shade(layers: Sequence[Any], layer: Any) -> str:
    """From the colour of the first layer to that of the last."""
    from plotly.colors import sample_colorscale

    position = list(layers).index(layer) / max(1, len(layers) - 1)
    return str(sample_colorscale([[i / 2, c] for i, c in enumerate(_SHADES)], [position])[0])
