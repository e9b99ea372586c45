"""How `layer_drop` is drawn: loss against how much was left out, and the time that remains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENCE, band, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.skipping.layer_drop_finding import DropFinding

_COLORS = {"one-shot": SEQUENCE[0], "iterative": SEQUENCE[2], "consecutive": SEQUENCE[6]}
_NAMES = {
    "one-shot": "least important, scored once",
    "iterative": "scored again after each drop",
    "consecutive": "best run of blocks",
}


def losses_and_time(finding: DropFinding) -> go.Figure:
    """A line for each order over the range of random choices; below, where measured, the time."""
    from plotly.subplots import make_subplots

    from layerscope.analyses.skipping.layer_drop_finding import PARTS

    table = finding.table
    timed = "time" in table and bool(table["time"].notna().any())
    part = PARTS[str(table["part"].iloc[0])]
    titles = ["Loss of the model that is left", "Time of a pass, as a share of the whole model's"]
    figure = make_subplots(
        rows=1 + timed,
        cols=1,
        vertical_spacing=0.16,
        row_heights=[0.65, 0.35] if timed else None,
        subplot_titles=titles[: 1 + timed],
    )
    _random(figure, table)
    for order, name in _NAMES.items():
        if (table["order"] == order).any():
            _line(figure, finding.curve(order), name, _COLORS[order])
    figure.add_scatter(
        x=[0, int(table["dropped"].max())],
        y=[table["baseline"].iloc[0]] * 2,
        name="whole model",
        mode="lines",
        line={"color": COLORS["baseline"], "dash": DASHES["baseline"]},
        hovertemplate="whole model: %{y:.3f}<extra></extra>",
        row=1,
        col=1,
    )
    figure.update_yaxes(title="nats per token", row=1, col=1)
    if timed:
        _time(figure, table)
        figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero", row=2, col=1)
    step = max(1, round(float(table["dropped"].max()) / 16))
    figure.update_xaxes(title=f"{part} left out", dtick=step)
    figure.update_layout(
        title="",
        height=680 if timed else 450,
        hovermode="closest",
        margin={"t": 120},
        legend={"y": 1.05},
    )
    figure.update_annotations(x=0, xanchor="left", font_size=14)
    return themed(figure)


def _line(figure: go.Figure, lines: pd.DataFrame, name: str, color: str) -> None:
    x = list(lines["dropped"])
    if lines["ci_low"].notna().all():
        figure.add_scatter(
            **band(x, lines["ci_low"], lines["ci_high"], color, 0.15),
            row=1,
            col=1,
        )
    figure.add_scatter(
        x=x,
        y=lines["value"],
        name=name,
        mode="lines+markers",
        line={"color": color},
        customdata=[_hover(line, name) for _, line in lines.iterrows()],
        hovertemplate="%{customdata}<extra></extra>",
        row=1,
        col=1,
    )


def _hover(line: pd.Series[Any], name: str) -> str:
    if not line["dropped"]:
        return f"whole model: {line['value']:.3f}"
    return (
        f"<b>{line['dropped']} left out</b>, {name}<br>{plain(line['which'])}<br>loss "
        f"{line['value']:.3f}{spoken(line['ci_low'], line['ci_high'], '.3f')}<br>added "
        f"{line['added']:+.3f}{spoken(line['added_low'], line['added_high'], '+.3f')}"
    )


def _random(figure: go.Figure, table: pd.DataFrame) -> None:
    draws = table[table["order"] == "random"]
    if not len(draws):
        return
    color = COLORS["control"]
    spread = draws.groupby("dropped")["value"].agg(["min", "mean", "max"])
    x = list(spread.index)
    figure.add_scatter(
        **band(x, spread["min"], spread["max"], color, 0.12),
        row=1,
        col=1,
    )
    count = int(draws["draw"].max()) + 1
    figure.add_scatter(
        x=x,
        y=spread["mean"],
        name=f"control: random choice (mean and range of {count})",
        mode="lines",
        line={"color": color, "dash": DASHES["control"]},
        hovertemplate="random choice of %{x}: %{y:.3f} on average<extra></extra>",
        row=1,
        col=1,
    )


def _time(figure: go.Figure, table: pd.DataFrame) -> None:
    lines = table.dropna(subset="time").drop_duplicates("dropped").sort_values("dropped")
    figure.add_scatter(
        x=lines["dropped"],
        y=lines["time"],
        mode="lines+markers",
        showlegend=False,
        line={"color": COLORS["value"]},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": lines["time_high"] - lines["time"],
            "arrayminus": lines["time"] - lines["time_low"],
            "color": COLORS["baseline"],
        },
        hovertemplate="%{x} left out: %{y:.0%} of the time<extra></extra>",
        row=2,
        col=1,
    )
