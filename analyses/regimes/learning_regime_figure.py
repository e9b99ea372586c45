"""How the table of `learning_regime` is drawn: curves over steps, and maps of layers over steps."""

from __future__ import annotations

from itertools import pairwise
from math import log10
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.regimes.regime_compare import WHOLE
from layerscope.theme import COLORS, DASHES, SEQUENCE, band, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ALIGNED = {
    "tangent_kernel_alignment": "tangent kernel",
    "centred_tangent_kernel_alignment": "tangent kernel, centred",
    "centred_representation_alignment": "states, centred",
    "representation_alignment": "states, uncentred",
    "sign_similarity": "equal signs",
}
_MAPS = {
    "centred_representation_alignment": "Alignment of states with the first (centred)",
    "tangent_kernel_alignment": "Alignment of tangent kernels with the first",
    "relative_weight_change": "Change of weights, share of their first norm",
}


def panels(table: pd.DataFrame) -> go.Figure:
    """Alignments, change of weights and loss over steps; below, the same by layer."""
    from plotly.subplots import make_subplots

    shown = [name for name in _MAPS if (table["measure"] == name).any()]
    loss = bool((table["measure"] == "loss").any())
    titles = [
        f"Alignment with the first; states of {_last_site(table)}",
        "Change of all weights, share of their first norm",
        *(["Loss"] if loss else []),
        *(_MAPS[name] for name in shown),
    ]
    tall = [60 + 24 * _parts(table, name) for name in shown]
    heights = [250, 160, *([160] if loss else []), *tall]
    total = sum(heights) + 62 * len(heights)
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        row_heights=[h / sum(heights) for h in heights],
        vertical_spacing=62 / total,
        subplot_titles=titles,
    )
    places = _places(table)
    _alignments(figure, table, places)
    change = table[(table["measure"] == "relative_weight_change") & (table["site"] == WHOLE)]
    _draw(figure, change, places, "weights", SEQUENCE[4], row=2, named=False)
    if loss:
        _draw(
            figure,
            table[table["measure"] == "loss"],
            places,
            "loss",
            SEQUENCE[4],
            row=3,
            named=False,
        )
        figure.update_yaxes(
            title=plain(table.loc[table["measure"] == "loss", "unit"].iloc[0]), row=3
        )
    for row, name in enumerate(shown, start=3 + loss):
        figure.add_trace(_map(table, places, name), row=row, col=1)
        figure.update_yaxes(autorange="reversed", type="category", row=row, col=1)
    _layout(figure, places, len(heights), total)
    return themed(figure)


def _layout(figure: go.Figure, places: dict[float, float], rows: int, height: int) -> None:
    ends = list(places.values())
    gap = min((b - a for a, b in pairwise(ends)), default=1.0)
    figure.update_xaxes(
        tickvals=ends,
        ticktext=[f"{step:g}" for step in places],
        range=[ends[0] - gap / 2, ends[-1] + gap / 2],
    )
    figure.update_xaxes(title="training step", row=rows, col=1)
    figure.update_yaxes(title="cosine, or share", range=[None, 1.02], row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_layout(
        title="How far training has moved the network",
        height=height,
        hovermode="closest",
        margin={"t": 136},
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)


def _places(table: pd.DataFrame) -> dict[float, float]:
    """Step -> place on a logarithmic axis, with step 0 as far before the next as that from its next."""
    steps = sorted(set(table["step"].astype(float)))
    later = [log10(step) for step in steps if step > 0]
    if len(later) < len(steps) - 1 or not later or later[-1] - later[0] < log10(8):
        return dict(zip(steps, steps, strict=True))
    gap = later[1] - later[0] if len(later) > 1 else 1.0
    return dict(
        zip(steps, later if len(later) == len(steps) else [later[0] - gap, *later], strict=True)
    )


def _last_site(table: pd.DataFrame) -> str:
    lines = table[table["measure"] == "representation_alignment"]
    return plain(lines["site"].iloc[-1])


def _alignments(figure: go.Figure, table: pd.DataFrame, places: dict[float, float]) -> None:
    last = table.loc[table["measure"] == "representation_alignment", "site"].iloc[-1]
    for color, (name, title) in zip(SEQUENCE, _ALIGNED.items(), strict=False):
        site = WHOLE if "kernel" in name else last
        lines = table[(table["measure"] == name) & (table["site"] == site)]
        if len(lines):
            _draw(figure, lines, places, title, color, row=1, named=True)
    grey = {"color": COLORS["baseline"], "width": 1.5}
    legend = {"null": ("dot", "rows in random order")}
    if "twin" in table:
        legend["twin"] = (DASHES["twin"], "other random weights")
    for dash, name in legend.values():
        blank: dict[str, Any] = {"x": [None], "y": [None], "mode": "lines", "name": name}
        figure.add_scatter(**blank, line={**grey, "dash": dash}, legendrank=2000, row=1, col=1)


def _draw(
    figure: go.Figure,
    lines: pd.DataFrame,
    places: dict[float, float],
    title: str,
    color: str,
    *,
    row: int,
    named: bool,
) -> None:
    lines = lines.sort_values("step")
    x = [places[float(step)] for step in lines["step"]]
    if lines["ci_low"].notna().all():
        figure.add_scatter(**band(x, lines["ci_low"], lines["ci_high"], color), row=row, col=1)
    figure.add_scatter(
        x=x,
        y=lines["value"],
        name=title,
        showlegend=named,
        mode="lines+markers",
        line={"color": color},
        customdata=[_hover(line, title) for _, line in lines.iterrows()],
        hovertemplate="%{customdata}<extra></extra>",
        row=row,
        col=1,
    )
    for column, dash in (("null_mean", "dot"), ("twin", DASHES["twin"])):
        if column in lines and lines[column].notna().all() and title != "loss":
            word = "rows in random order" if column == "null_mean" else "other random weights"
            figure.add_scatter(
                x=x,
                y=lines[column],
                mode="lines",
                opacity=0.7,
                showlegend=False,
                line={"color": color, "dash": dash, "width": 1.5},
                customdata=[f"{plain(title)}, {word}: {v:.3f}" for v in lines[column]],
                hovertemplate="%{customdata}<extra></extra>",
                row=row,
                col=1,
            )


def _hover(line: pd.Series[Any], title: str) -> str:
    text = (
        f"<b>{plain(line['site'])}, step {line['step']:g}</b><br>{plain(title)}: {line['value']:.3f}"
        f"{spoken(line['ci_low'], line['ci_high'], '.3f')}"
    )
    if not np.isnan(line["null_mean"]):
        text += f"<br>rows in random order {line['null_mean']:.3f}"
    if "twin" in line and not np.isnan(line["twin"]):
        text += f"<br>other random weights {line['twin']:.3f}"
    return f"{text}<br>{plain(line['estimator'])}"


def _parts(table: pd.DataFrame, name: str) -> int:
    return int(table.loc[table["measure"] == name, "site"].nunique())


def _map(table: pd.DataFrame, places: dict[float, float], name: str) -> go.Heatmap:
    import plotly.graph_objects as go

    lines = table[table["measure"] == name]
    sites = list(dict.fromkeys(lines["site"]))
    cells = np.full((len(sites), len(places)), np.nan)
    texts = np.full(cells.shape, "", dtype=object)
    steps = list(places)
    for _, line in lines.iterrows():
        at = sites.index(line["site"]), steps.index(float(line["step"]))
        cells[at], texts[at] = line["value"], _hover(line, _MAPS[name])
    bounded = name != "relative_weight_change"
    return go.Heatmap(
        z=cells,
        x=list(places.values()),
        y=[plain(site) for site in sites],
        customdata=texts,
        text=[["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in cells],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        zmin=0.0,
        zmax=1.0 if bounded else None,
        showscale=False,
        xgap=1,
        ygap=1,
    )
