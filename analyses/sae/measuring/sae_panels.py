"""The panels of the figure of `evaluate`, each drawn on axes of its own."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.sae.measuring.norms import CONES
from layerscope.theme import COLORS, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.sae.measuring.sae_finding import SAEFinding

KEPT = {
    "explained_variance": "variance<br>explained",
    "ce_recovered_zero": "loss recovered<br>(zeros: 0)",
    "ce_recovered_mean": "loss recovered<br>(mean: 0)",
    "kl_recovered_zero": "KL recovered<br>(zeros: 0)",
}
"""Shares in the first panel."""
SIDES = {
    "value": ("this SAE", COLORS["value"], "circle"),
    "random": ("random directions, same L0", COLORS["control"], "diamond"),
    "pca": ("principal components, same number", COLORS["baseline"], "square"),
    "baseline": ("single dimensions", COLORS["twin"], "triangle-up"),
}
LEAST = -0.25
"""Shares below are drawn here, with their number."""


def _axes(figure: go.Figure, axis: str, domain: tuple[float, float], x: Any, y: Any) -> None:
    figure.update_layout(
        {
            f"xaxis{axis}": {"anchor": f"y{axis}", "domain": [0, 1]} | x,
            f"yaxis{axis}": {"anchor": f"x{axis}", "domain": list(domain)} | y,
        }
    )


def _mark(column: str, named: set[str]) -> dict[str, Any]:
    name, color, symbol = SIDES[column]
    shown = column not in named
    named.add(column)
    return {
        "name": name,
        "legendgroup": column,
        "showlegend": shown,
        "marker": {"color": color, "symbol": symbol, "size": 11 if column == "value" else 9},
    }


def kept(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
    """Shares kept, a line for each measure."""
    lines = finding.measures.set_index("key")
    keys = [key for key in KEPT if key in lines.index]
    lines = lines.loc[keys]
    labels = [KEPT[key] for key in keys]
    for column in ("pca", "random", "value"):
        values = lines[column].astype(float)
        if values.isna().all():
            continue
        drawn = values.clip(lower=LEAST)
        figure.add_scatter(
            x=drawn,
            y=labels,
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            mode="markers+text",
            text=[f"{value:.0%}" if value < LEAST else "" for value in values],
            textposition="middle right",
            error_x=_errors(lines, drawn) if column == "value" else None,
            customdata=[_hover(line, column) for _, line in lines.iterrows()],
            hovertemplate="%{customdata}<extra></extra>",
            **_mark(column, named),
        )
    figure.add_scatter(
        x=[1, 1], y=[labels[0], labels[-1]], xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines",
        line={"width": 0}, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    low = min(0.0, float(np.nanmin(lines[["value", "random", "pca"]].clip(lower=LEAST))))
    _axes(
        figure, axis, domain,
        {"tickformat": ".0%", "range": [low - 0.06, 1.06], "title": {"text": "share kept"}},
        {"autorange": "reversed", "ticksuffix": "  "},
    )  # fmt: skip


def _errors(lines: pd.DataFrame, values: Any) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (lines["ci_high"] - values).fillna(0).clip(lower=0),
        "arrayminus": (values - lines["ci_low"]).fillna(0).clip(lower=0),
        "thickness": 2,
        "width": 4,
    }


def _hover(line: pd.Series[Any], column: str) -> str:
    text = f"{plain(line['measure'])}<br>{SIDES[column][0]}: {line[column]:.4g}"
    if column == "value" and not isnan(line["ci_low"]):
        text += f" ({line['ci_low']:.4g} to {line['ci_high']:.4g})"
    return f"{text}<br>n = {line['n']:,}"


def probing(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
    """Balanced accuracy by the number of latents."""
    lines = finding.measures[finding.measures["group"] == "probing"]
    x = [f"{k:.0f}" for k in lines["x"]]
    for column in ("pca", "random", "baseline", "value"):
        if lines[column].isna().all():
            continue
        mark = _mark(column, named)
        errors = _errors(lines, lines["value"]) if column == "value" else None
        figure.add_scatter(
            x=x, y=lines[column], xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines+markers",
            line={"color": mark["marker"]["color"]},
            error_y=errors,
            customdata=[_hover(line, column) for _, line in lines.iterrows()],
            hovertemplate="%{customdata}<extra></extra>", **mark,
        )  # fmt: skip
    for column, what in (("ceiling", "all dimensions"), ("null_mean", "shuffled labels")):
        level = float(lines[column].mean())
        if not isnan(level):
            figure.add_scatter(
                x=x, y=[level] * len(x), xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines+text",
                line={"color": COLORS["baseline"], "dash": "dot", "width": 1.5}, showlegend=False,
                text=[""] * (len(x) - 1) + [what],
                textposition="bottom left" if column == "ceiling" else "top left",
                textfont={"color": COLORS["baseline"]}, hoverinfo="skip",
            )  # fmt: skip
    label = plain(lines["part"].iloc[0])
    _axes(
        figure, axis, domain,
        {"type": "category", "title": {"text": f"latents (or dimensions) a probe of {label} may read"}},
        {"title": {"text": "balanced accuracy"}},
    )  # fmt: skip


def density(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
    """Histogram of densities; the random dictionary's as an outline."""
    lines = finding.table[finding.table["group"] == "density"]
    there = np.flatnonzero((lines[["value", "random"]].fillna(0) > 0).any(axis=1))
    lines = lines.iloc[there[0] : there[-1] + 1] if len(there) else lines.iloc[-1:]
    step = 10**0.25
    middle = np.log10(lines["x"].to_numpy(dtype=float)) + 0.125
    hover = [
        f"{x:.2g} to {x * step:.2g} of the rows: {value:,.0f} latents"
        for x, value in zip(lines["x"], lines["value"], strict=True)
    ]
    figure.add_bar(
        x=middle, y=lines["value"], width=0.23, xaxis=f"x{axis}", yaxis=f"y{axis}",
        marker={"color": SIDES["value"][1]}, showlegend=False, legendgroup="value",
        customdata=hover, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if lines["random"].notna().any():
        figure.add_scatter(
            x=middle, y=lines["random"], xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines",
            line={"shape": "hvh", "color": SIDES["random"][1], "width": 2, "dash": "dash"},
            legendgroup="random", showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    ticks = np.arange(np.floor(middle.min()), 1)
    _axes(
        figure, axis, domain,
        {
            "title": {"text": "share of rows at which a latent is active"},
            "tickvals": ticks,
            "ticktext": [f"{100 * 10.0**tick:g} %" for tick in ticks],
        },
        {"title": {"text": "latents"}},
    )  # fmt: skip


def norms(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
    """Norm of the codes by norm of what they stand for, between the limits of `CONES`."""
    lines = finding.table[finding.table["group"] == "points"]
    x, y = lines["x"].to_numpy(dtype=float), lines["value"].to_numpy(dtype=float)
    most = 1.05 * float(np.quantile(x, 0.99)) if len(x) else 1.0
    top = 1.1 * max(most, float(np.quantile(y, 0.99)) if len(y) else 1.0)
    place = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
    for gap in CONES:
        ends = [most / (1 + gap) ** 0.5] + ([most / (1 - gap) ** 0.5] if gap < 1 else [])
        for end in ends:
            reach = min(most, most * top / end)
            figure.add_scatter(
                x=[0, reach], y=[0, end * reach / most], mode="lines", **place,
                line={"color": COLORS["baseline"], "dash": "dot", "width": 1.25},
                showlegend=False, hoverinfo="skip",
            )  # fmt: skip
            if end < most:
                figure.add_annotation(
                    text=f"{gap:g}", x=most, y=end, xref=f"x{axis}", yref=f"y{axis}",
                    xanchor="left", showarrow=False, font={"size": 11, "color": COLORS["baseline"]},
                )  # fmt: skip
    figure.add_scatter(
        x=[0, most], y=[0, most], mode="lines", **place,
        line={"color": COLORS["baseline"], "width": 1.5}, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, mode="markers", **place, showlegend=False, legendgroup="value",
        marker={"color": SIDES["value"][1], "size": 5, "opacity": 0.5},
        hovertemplate="|z| %{x:.3g}, |f| %{y:.3g}<extra></extra>",
    )  # fmt: skip
    _axes(
        figure, axis, domain,
        {
            "range": [0, most],
            "title": {
                "text": "norm of the activation less its bias, |z|<br>"
                f"<span style='font-size:12px'>{_bounds(finding)}</span>"
            },
        },
        {"range": [0, top], "title": {"text": "norm of the codes, |f|"}},
    )  # fmt: skip


def _bounds(finding: SAEFinding) -> str:
    """The two bounds, beside the coherence that they are bounds of where nothing is missing."""
    k, h, most = (finding.value(key) for key in ("elbo_k_max", "elbo_h_max", "coherence"))
    return (
        f"overlap alone would need |cos| ≥ {k:.2g} of active latents,<br>"
        f"or ≥ {h:.1g} of all (the paper's); largest |cos| is {most:.2f}"
    )
