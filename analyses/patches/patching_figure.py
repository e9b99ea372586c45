"""Maps of layer by token, or head by layer, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.patches.patching_words import missing
from layerscope.theme import mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

TITLES = {
    "resid_pre": "stream into block",
    "resid_mid": "stream after attention",
    "resid_post": "stream out of block",
    "attn_out": "attention",
    "mlp_out": "MLP",
    "z": "heads (z)",
    "q": "queries of heads",
    "k": "keys of heads",
    "v": "values of heads",
}
"""What a kind of site is called above its map."""


_SAID = {"share of logit diff": "share of the logit difference"}
GAP, MARGINS = 96, 116
"""Pixels between two rows of maps, for the axis of one and the title of the other; and around all."""
Panel = tuple[str, "pd.DataFrame"]
"""A title, and the lines of the table that are drawn under it."""


def maps(table: pd.DataFrame) -> go.Figure:
    """One map for each direction and kind, with one colour scale for all of them."""
    return themed(grid(panels_of(table))[0])


def grid(
    panels: Sequence[Panel], more: Sequence[str] = ()
) -> tuple[go.Figure, list[dict[str, int]]]:
    """The maps as subplots, and the places that are left for panels titled `more`."""
    import pandas as pd
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    count = len(panels) + len(more)
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    inner, height = _heights(panels, rows)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[*(title for title, _ in panels), *more],
        horizontal_spacing=0.04,
        vertical_spacing=GAP / (height - MARGINS),
    )
    cells = [{"row": i // columns + 1, "col": i % columns + 1} for i in range(count)]
    for (_, part), cell in zip(panels, cells, strict=False):
        figure.add_trace(go.Heatmap(**_map(part)), **cell)
        _axes(figure, part, cell)
    limit = limit_of(pd.concat([part["value"] for _, part in panels]))
    unit = str(panels[0][1]["unit"].iloc[0]).replace("_", " ")
    figure.update_layout(
        coloraxis={
            "cmin": -limit,
            "cmid": 0,
            "cmax": limit,
            "colorbar": {
                "title": {"text": f"{_SAID.get(unit, unit)} restored", "side": "right"},
                "tickformat": ".0%",
                "lenmode": "pixels",
                "len": inner + 20,
                "y": 1,
                "yanchor": "top",
            },
        },
        height=height,
        margin={"t": 64, "b": 52},
    )
    figure.update_annotations(font={"size": 13})
    for (_, part), trace in zip(panels, figure.data, strict=True):
        mark_layers(figure, part["layer"], trace.xaxis or "x")
    return figure, cells[len(panels) :]


def limit_of(values: Any) -> float:
    """The end of a colour scale that is the same on both sides of 0."""
    finite = np.abs(np.asarray(values, dtype=float))
    finite = finite[np.isfinite(finite)]
    return max(float(finite.max(initial=0.0)), 0.05)


def panels_of(table: pd.DataFrame) -> list[Panel]:
    """One panel for each direction, kind and, for heads, place."""
    several = table["direction"].nunique() > 1
    found = []
    for (way, kind), part in table.groupby(["direction", "kind"], sort=False):
        title = TITLES.get(str(kind), str(kind))
        if part["head"].notna().any() and len(set(_lines(part))) > 1:
            places = part.groupby(["position", "token"], sort=False, dropna=False)
            for (_, token), here in places:
                found.append((f"{title} at {plain(str(token).strip())}", here))
        else:
            found.append((f"{title}<br>{way}" if several else title, part))
    return found


def _map(part: pd.DataFrame) -> dict[str, Any]:
    by = "head" if part["head"].notna().any() else "_line"
    part = part.assign(_line=_lines(part))
    value = part.pivot(index=by, columns="layer", values="value")
    text = part.assign(text=[hover(row) for row in part.itertuples()])
    text = text.pivot(index=by, columns="layer", values="text").reindex_like(value)
    return {
        "z": value.to_numpy(dtype=float, na_value=np.nan),
        "x": [int(layer) for layer in value.columns],
        "y": [int(line) for line in value.index],
        "text": text.to_numpy(),
        "hovertemplate": "%{text}<extra></extra>",
        "coloraxis": "coloraxis",
        "xgap": 1,
        "ygap": 1,
    }


def _lines(part: pd.DataFrame) -> list[int]:
    """Places in the order of the table; tokens repeat, so they cannot be the axis themselves."""
    keys = list(zip(part["position"].astype(object), part["token"], strict=True))
    order = {key: number for number, key in enumerate(dict.fromkeys(map(str, keys)))}
    return [order[str(key)] for key in keys]


def _axes(figure: go.Figure, part: pd.DataFrame, cell: Mapping[str, int]) -> None:
    step = max(1, -(-part["layer"].nunique() // 8))
    figure.update_xaxes(title="layer", dtick=step, showgrid=False, **cell)
    first = cell["col"] == 1
    if part["head"].notna().any():
        title = "head" if first else None
        figure.update_yaxes(title=title, dtick=1, showgrid=False, showticklabels=first, **cell)
        return
    lines = dict(zip(_lines(part), part["token"], strict=True))
    figure.update_yaxes(
        tickvals=list(lines),
        ticktext=[shown(token) for token in lines.values()],
        showticklabels=first,
        autorange="reversed",
        showgrid=False,
        **cell,
    )


def shown(token: object) -> str:
    """A token on an axis: short, and as it is written."""
    text = str(token).strip() or repr(str(token))
    return plain(text if len(text) <= 18 else f"{text[:17]}…")


def hover(row: Any) -> str:
    """What a cell says when it is pointed at."""
    head = "" if missing(row.head) else f", head {row.head}"
    spread = "" if missing(row.ci_low) else f" ({row.ci_low:.1%} to {row.ci_high:.1%})"
    place = "all positions" if row.token == "all" else f"at {plain(str(row.token).strip())}"
    return (
        f"<b>{plain(row.site)}{head}</b><br>{place}<br>{plain(row.unit)}: {row.value:.1%}{spread}"
        f"<br>metric {row.metric:.3f} ({row.corrupt:.3f} corrupt, {row.clean:.3f} clean)"
    )


def _heights(panels: Sequence[Panel], rows: int) -> tuple[int, int]:
    """Pixels of one map, and of the whole figure."""
    lines = max(part.groupby("layer").size().max() for _, part in panels)
    inner = int(max(150, 26 * lines))
    return inner, rows * inner + (rows - 1) * GAP + MARGINS
