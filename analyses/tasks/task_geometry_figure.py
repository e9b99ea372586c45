"""How the table of `task_geometry` is drawn: curves over layers, and one map for each measure of dichotomies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.material.curves import curve, interval
from layerscope.theme import COLORS, DASHES, SEQUENCE, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_MAPS = {
    "parallelism": "Parallelism score",
    "ccgp_paired": "CCGP, split rule paired",
    "ccgp_all": "CCGP, split rule all",
}
_CURVES = {
    "input_alignment": "with the inputs",
    "target_alignment": "with the targets",
    "mean_decoding": "mean accuracy",
    "shattering": "share decodable",
    "dimension": "dimension",
}
_HUES = {
    "input_alignment": COLORS["value"],
    "target_alignment": SEQUENCE[5],
    "mean_decoding": SEQUENCE[2],
    "shattering": SEQUENCE[6],
    "dimension": COLORS["value"],
}
MOST = 12
"""Dichotomies in a map; the table has all."""


def panels(table: pd.DataFrame) -> go.Figure:
    """Alignments, maps of dichotomies, all balanced dichotomies, dimension: one above the other."""
    from plotly.subplots import make_subplots

    maps = [name for name in _MAPS if (table["measure"] == name).any()]
    named = list(dict.fromkeys(table.loc[table["measure"] == "parallelism", "dichotomy"]))[:MOST]
    titles = [
        "Alignment of condition means",
        *(_MAPS[name] for name in maps),
        "All balanced dichotomies",
        "Dimension of the condition means",
    ]
    tall = 70 + 26 * max(1, len(named))
    heights = [240, *([tall] * len(maps)), 200, 160]
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        row_heights=[h / sum(heights) for h in heights],
        vertical_spacing=60 / (sum(heights) + 60 * len(heights)),
        subplot_titles=titles,
        shared_xaxes=False,
    )
    places = _places(table)
    _curves(figure, table, places, ["input_alignment", "target_alignment"], 1)
    _reference(figure, table, places)
    for row, name in enumerate(maps, start=2):
        figure.add_trace(_map(table, places, name, named), row=row, col=1)
        figure.update_yaxes(autorange="reversed", ticklabelstandoff=6, row=row, col=1)
    _curves(figure, table, places, ["mean_decoding", "shattering"], len(heights) - 1)
    _curves(figure, table, places, ["dimension"], len(heights))
    _layout(figure, places, len(heights), sum(heights) + 60 * len(heights))
    lines = table.drop_duplicates("site")
    mark_layers(figure, lines["layer"], at=[places[site][0] for site in lines["site"]])
    return themed(figure)


def _layout(
    figure: go.Figure, places: dict[str, tuple[float, str]], rows: int, height: int
) -> None:
    ticks = dict(places.values())
    step = max(1, round(len(ticks) / 14))
    kept = list(ticks.items())[::step]
    figure.update_xaxes(tickvals=[x for x, _ in kept], ticktext=[word for _, word in kept])
    spread = [min(ticks) - 0.5, max(ticks) + 0.5]
    figure.update_xaxes(range=spread)
    figure.update_xaxes(title="layer", row=rows, col=1)
    figure.update_yaxes(title="cosine", row=1, col=1)
    figure.update_yaxes(title="share on held-out groups", rangemode="tozero", row=rows - 1, col=1)
    figure.update_yaxes(title="dimensions", rangemode="tozero", row=rows, col=1)
    figure.update_layout(
        title="Geometry of the conditions by layer",
        height=height,
        hovermode="closest",
        margin={"t": 110},
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)


def _places(table: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """Site -> where it is on the axis, and how it is called there."""
    lines = table[table["measure"] == "target_alignment"]
    sites = dict(zip(lines["site"], lines["layer"], strict=True))
    if lines["layer"].notna().all() and lines["layer"].is_unique:
        return {site: (float(n), "embed" if n < 0 else str(n)) for site, n in sites.items()}
    return {site: (float(i), str(site)) for i, site in enumerate(sites)}


def _curves(
    figure: go.Figure,
    table: pd.DataFrame,
    places: dict[str, tuple[float, str]],
    names: list[str],
    row: int,
) -> None:
    for name in names:
        color = _HUES[name]
        lines = table[table["measure"] == name]
        lines = lines.assign(layer=[places[site][0] for site in lines["site"]])
        for band in interval(lines, "ci_low", "ci_high", color) if len(lines) > 1 else []:
            figure.add_trace(band, row=row, col=1)
        title = _CURVES[name]
        shape = curve(lines, "value", title, color, "solid", _hover, named=name != "dimension")
        figure.add_scatter(**shape, row=row, col=1)
        if "twin" in lines:
            shape = curve(lines, "twin", f"{title}: twin", color, "dashdot", _hover, named=False)
            figure.add_scatter(**shape, opacity=0.75, row=row, col=1)
    if "twin" in table and row == 1:
        line = {"color": COLORS["baseline"], "dash": DASHES["twin"], "width": 1.5}
        blank: dict[str, Any] = {"x": [None], "y": [None], "mode": "lines", "line": line}
        figure.add_scatter(**blank, name="untrained twin", legendrank=2000, row=row, col=1)


def _reference(
    figure: go.Figure, table: pd.DataFrame, places: dict[str, tuple[float, str]]
) -> None:
    value = table.loc[table["measure"] == "input_target_alignment", "value"].iloc[0]
    ends = [x for x, _ in places.values()]
    figure.add_scatter(
        x=[min(ends), max(ends)],
        y=[value, value],
        name="inputs with targets",
        mode="lines",
        line={"color": COLORS["baseline"], "dash": DASHES["baseline"]},
        hovertemplate="inputs with targets: %{y:.3f}<extra></extra>",
        row=1,
        col=1,
    )


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{plain(name)}: {line[column]:.3f}"
    if column == "twin":
        return text + spoken(line["twin_low"], line["twin_high"], ".3f")
    text += spoken(line["ci_low"], line["ci_high"], ".3f")
    return f"{text}<br>{plain(line['estimator'])}<br>null {line['null_mean']:.3f} (sd {line['null_sd']:.3f})"


def _map(
    table: pd.DataFrame, places: dict[str, tuple[float, str]], name: str, named: list[str]
) -> go.Heatmap:
    import plotly.graph_objects as go

    lines = table[(table["measure"] == name) & table["dichotomy"].isin(named)]
    sites = list(places)
    cells = np.full((len(named), len(sites)), np.nan)
    texts = np.full(cells.shape, "", dtype=object)
    for _, line in lines.iterrows():
        at = named.index(line["dichotomy"]), sites.index(line["site"])
        cells[at], texts[at] = line["value"], _cell(line)
    kept = [i for i in range(len(named)) if texts[i].any()]
    accuracy = name != "parallelism"
    return go.Heatmap(
        z=cells[kept],
        x=[places[site][0] for site in sites],
        y=[plain(named[i]) for i in kept],
        customdata=texts[kept],
        text=[["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in cells[kept]],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        zmid=0.5 if accuracy else 0.0,
        zmin=0.0 if accuracy else -1.0,
        zmax=1.0,
        showscale=False,
        xgap=1,
        ygap=1,
    )


def _cell(line: pd.Series[Any]) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{plain(line['dichotomy'])}: {line['value']:.3f}"
    text += spoken(line["ci_low"], line["ci_high"], ".3f")
    text += f"<br>other divisions {line['null_mean']:.3f} (sd {line['null_sd']:.3f})"
    if "twin" in line:
        text += f"<br>untrained twin {line['twin']:.3f}"
    return text
