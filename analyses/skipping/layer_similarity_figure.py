"""How the table of `layer_similarity` is drawn: cosine by layer, and a map of all runs of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENTIAL, band, mark_layers, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_NAMES = {"block": "whole block", "attention": "attention", "mlp": "MLP"}


def curves_and_runs(table: pd.DataFrame) -> go.Figure:
    """Cosine by layer on top; below, where runs of blocks were measured, one cell for each."""
    from plotly.subplots import make_subplots

    runs = table[table["part"].isin(["block", "window"])]
    mapped = bool((table["part"] == "window").any())
    figure = make_subplots(
        rows=1 + mapped,
        cols=1,
        vertical_spacing=0.2,
        row_heights=[0.5, 0.5] if mapped else None,
        subplot_titles=["", "Runs of blocks: input of the first against output of the last"][
            : 1 + mapped
        ],
    )
    for part, name in _NAMES.items():
        lines = table[table["part"] == part].sort_values("layer")
        if len(lines):
            _curve(figure, lines, name, COLORS[part])
    if "twin" in table:
        figure.add_scatter(
            **_legend("untrained twin", COLORS["baseline"], DASHES["twin"]), row=1, col=1
        )
    if mapped:
        figure.add_trace(_runs(runs), row=2, col=1)
        figure.update_xaxes(title="first block of the run", dtick=_tick(runs), row=2, col=1)
        figure.update_yaxes(title="blocks in the run", dtick=_tick(runs), row=2, col=1)
    figure.update_xaxes(title="layer", dtick=_tick(table), row=1, col=1)
    figure.update_yaxes(title="cosine of input and output", row=1, col=1)
    figure.update_layout(
        title="",
        height=720 if mapped else 390,
        hovermode="closest",
        margin={"t": 64},  # two lines of legend, on a narrow page
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    return themed(mark_layers(figure, table["layer"]))


def _curve(figure: go.Figure, lines: pd.DataFrame, name: str, color: str) -> None:
    x = list(lines["layer"])
    if "twin" in lines:
        figure.add_scatter(
            x=x,
            y=lines["twin"],
            mode="lines",
            line={"color": color, "dash": DASHES["twin"], "width": 1.5},
            opacity=0.75,
            showlegend=False,
            customdata=[f"{name}, untrained twin: {v:.3f}" for v in lines["twin"]],
            hovertemplate="%{customdata}<extra></extra>",
            row=1,
            col=1,
        )
    if len(x) > 1 and lines["ci_low"].notna().all():
        figure.add_scatter(
            **band(x, lines["ci_low"], lines["ci_high"], color),
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
    text = (
        f"<b>{name}, layer {line['layer']}</b><br>cosine {line['value']:.4f}{spoken(line['ci_low'], line['ci_high'], '.4f')}"
        f"<br>without first tokens {line['without_first']:.4f}"
        f"<br>rank {line['rank']:.0f} (1: turns the state least)"
    )
    if line["part"] != "block":
        text += f"<br>among attention and MLP together {line['joint_rank']:.0f}"
    return text


def _legend(name: str, color: str, dash: str) -> dict[str, Any]:
    line = {"color": color, "dash": dash, "width": 1.5}
    return {"x": [None], "y": [None], "name": name, "mode": "lines", "line": line}


def _runs(runs: pd.DataFrame) -> go.Heatmap:
    import plotly.graph_objects as go

    cells = runs.pivot(index="blocks", columns="layer", values="value")
    hovers = runs.assign(text=[_run_hover(line) for _, line in runs.iterrows()])
    texts = hovers.pivot(index="blocks", columns="layer", values="text").fillna("")
    return go.Heatmap(
        z=cells.to_numpy(),
        x=list(cells.columns),
        y=list(cells.index),
        customdata=texts.to_numpy(),
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=list(SEQUENTIAL),
        autocolorscale=False,
        zmin=max(0.0, float(runs["value"].min())),
        zmax=1.0,
        colorbar={"title": {"text": "cosine", "side": "right"}, "len": 0.42, "y": 0.2},
        xgap=1,
        ygap=1,
    )


def _run_hover(line: pd.Series[Any]) -> str:
    last = line["layer"] + line["blocks"] - 1
    which = f"block {line['layer']}" if line["blocks"] == 1 else f"blocks {line['layer']} to {last}"
    return f"<b>{which}</b> ({line['blocks']} in a row)<br>cosine {line['value']:.4f}{spoken(line['ci_low'], line['ci_high'], '.4f')}"


def _tick(table: pd.DataFrame) -> int:
    return max(1, round(float(table["layer"].max() + 1) / 16))
