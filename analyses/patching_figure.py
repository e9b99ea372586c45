"""Maps of layer by token, or head by layer, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.theme import plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

TITLES = {
    "resid_pre": "stream into the block",
    "resid_mid": "stream after attention",
    "resid_post": "stream out of the block",
    "attn_out": "attention",
    "mlp_out": "MLP",
    "z": "heads (z)",
    "q": "queries of heads",
    "k": "keys of heads",
    "v": "values of heads",
}
"""What a kind of site is called above its map."""


def maps(table: pd.DataFrame, *, label: str = "share", per_row: int = 3) -> go.Figure:
    """One map for each direction and kind, with one colour scale for all of them."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    panels = _panels(table)
    columns = min(per_row, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[title for title, _ in panels],
        horizontal_spacing=0.03,
        vertical_spacing=0.16 / rows,
        shared_yaxes=not table["head"].notna().any(),
    )
    for number, (_, part) in enumerate(panels):
        row, column = number // columns + 1, number % columns + 1
        figure.add_trace(go.Heatmap(**_map(part)), row=row, col=column)
        _axes(figure, part, row, column, bottom=number + columns >= len(panels))
    limit = limit_of(table["value"])
    bar = {"title": {"text": label, "side": "right"}, "tickformat": ".0%"}
    figure.update_layout(
        coloraxis={"cmin": -limit, "cmid": 0, "cmax": limit, "colorbar": bar},
        height=_height(panels, rows),
    )
    # Plotly takes the diverging scale only where it is told that 0 is the middle.
    return _diverging(themed(figure))


def limit_of(values: Any) -> float:
    """The end of a colour scale that is the same on both sides of 0."""
    finite = np.abs(np.asarray(values, dtype=float))
    finite = finite[np.isfinite(finite)]
    return max(float(finite.max(initial=0.0)), 0.05)


def _diverging(figure: go.Figure) -> go.Figure:
    from layerscope.theme import DIVERGING

    return figure.update_coloraxes(colorscale=list(DIVERGING))


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    several = table["direction"].nunique() > 1
    found = []
    for (way, kind), part in table.groupby(["direction", "kind"], sort=False):
        title = TITLES.get(str(kind), str(kind))
        if part["head"].notna().any() and part["token"].nunique() > 1:
            for token, here in part.groupby("token", sort=False):
                found.append((f"{title} at {plain(str(token).strip())}", here))
        else:
            found.append((f"{title}<br>{way}" if several else title, part))
    return found


def _map(part: pd.DataFrame) -> dict[str, Any]:
    by = "head" if part["head"].notna().any() else "_line"
    part = part.assign(_line=_lines(part))
    value = part.pivot(index=by, columns="layer", values="value")
    text = part.assign(text=[_hover(row) for row in part.itertuples()])
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


def _axes(figure: go.Figure, part: pd.DataFrame, row: int, column: int, *, bottom: bool) -> None:
    figure.update_xaxes(
        title="layer" if bottom else None,
        dtick=_step(part["layer"].nunique()),
        showgrid=False,
        row=row,
        col=column,
    )
    if part["head"].notna().any():
        figure.update_yaxes(
            title="head" if column == 1 else None, dtick=1, showgrid=False, row=row, col=column
        )
        return
    lines = dict(zip(_lines(part), part["token"], strict=True))
    figure.update_yaxes(
        tickvals=list(lines),
        ticktext=[shown(token) for token in lines.values()],
        autorange="reversed",
        showgrid=False,
        row=row,
        col=column,
    )


def shown(token: object) -> str:
    """A token on an axis: short, and as it is written."""
    text = str(token).strip() or repr(str(token))
    return plain(text if len(text) <= 18 else f"{text[:17]}…")


def _hover(row: Any) -> str:
    head = f", head {row.head}" if row.head is not None and row.head == row.head else ""
    head = "" if str(row.head) == "<NA>" else head
    spread = "" if row.ci_low != row.ci_low else f" ({row.ci_low:.1%} to {row.ci_high:.1%})"
    place = "all positions" if row.token == "all" else f"at {plain(str(row.token).strip())}"
    return (
        f"<b>{plain(row.site)}{head}</b><br>{place}<br>{plain(row.unit)}: {row.value:.1%}{spread}"
        f"<br>metric {row.metric:.3f} ({row.corrupt:.3f} corrupt, {row.clean:.3f} clean)"
    )


def _step(layers: int) -> int:
    return max(1, -(-layers // 8))


def _height(panels: list[tuple[str, pd.DataFrame]], rows: int) -> int:
    lines = max(
        part["head" if part["head"].notna().any() else "token"].count() // part["layer"].nunique()
        for _, part in panels
    )
    return int(rows * max(230, 150 + 26 * lines))
