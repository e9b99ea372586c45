"""How attention knock-out is drawn: a line for each flow, or layer by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.patches.patching_figure import limit_of, shown
from layerscope.theme import SEQUENCE, band, mark_layers, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

AXIS = "change of the answer's probability"


def lines(table: pd.DataFrame) -> go.Figure:
    """Relative change by centre of the window, with its interval."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (flow, part) in enumerate(table.groupby("flow", sort=False)):
        color = SEQUENCE[number % len(SEQUENCE)]
        if part["ci_low"].notna().any():
            figure.add_scatter(
                **band(part["layer"], part["ci_low"], part["ci_high"], color, 0.15),
            )
        figure.add_scatter(
            x=part["layer"],
            y=part["value"],
            name=plain(flow),
            mode="lines+markers",
            line={"color": color},
            customdata=[_hover(row) for row in part.itertuples()],
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.add_hline(y=0, line={"width": 1, "dash": "dot", "color": "#7d7d7d"})
    figure.update_xaxes(title=f"{_window(table)}", dtick=_step(table))
    figure.update_yaxes(title=AXIS, tickformat=".0%")
    mark_layers(figure, table["layer"])
    return themed(figure.update_layout(hovermode="closest", showlegend=True))


def token_map(table: pd.DataFrame) -> go.Figure:
    """What the last position loses when it cannot see a token, by token and window."""
    import plotly.graph_objects as go

    value = table.pivot(index="position", columns="layer", values="value")
    text = table.assign(text=[_hover(row) for row in table.itertuples()])
    text = text.pivot(index="position", columns="layer", values="text")
    tokens = dict(zip(table["position"], table["token"], strict=True))
    limit = limit_of(table["value"])
    figure = go.Figure(
        go.Heatmap(
            z=value.to_numpy(),
            x=[int(layer) for layer in value.columns],
            y=[int(position) for position in value.index],
            text=text.to_numpy(),
            hovertemplate="%{text}<extra></extra>",
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
        )
    )
    bar = {"title": {"text": AXIS, "side": "right", "font": {"size": 13}}, "tickformat": ".0%"}
    figure.update_xaxes(title=_window(table), dtick=_step(table), showgrid=False)
    figure.update_yaxes(
        title="token the last position cannot see",
        tickvals=[int(position) for position in tokens],
        ticktext=[shown(token) for token in tokens.values()],
        autorange="reversed",
        showgrid=False,
    )
    figure.update_layout(
        coloraxis={
            "cmin": -limit,
            "cmid": 0,
            "cmax": limit,
            "colorbar": bar,
        },
        height=max(300, 150 + 26 * len(tokens)),
    )
    return themed(mark_layers(figure, table["layer"]))


def _window(table: pd.DataFrame) -> str:
    width = int((table["end"] - table["first"]).max())
    return "block" if width == 1 else f"centre of the window (up to {width} blocks)"


def _step(table: pd.DataFrame) -> int:
    return max(1, -(-table["layer"].nunique() // 16))


def _hover(row: Any) -> str:
    spread = "" if row.ci_low != row.ci_low else f" ({row.ci_low:+.1%} to {row.ci_high:+.1%})"
    return (
        f"<b>{plain(row.flow)}</b><br>blocks {row.first} to {row.end - 1}"
        f"<br>probability: {row.value:+.1%}{spread}<br>log probability: {row.logprob:+.3f} nats"
        f"<br>still right: {row.kept:.0%} of {row.n}"
    )
