"""How the measures of an SAE are drawn: panels below each other, one question each."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.sae.measuring.norms import CONES
from layerscope.theme import COLORS, plain, themed

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
TOP, BOTTOM = 232, 90
HEIGHTS = {"kept": 4.0, "probing": 4.0, "density": 4.0, "norms": 6.2}
GAP = 2.5


def panels(finding: SAEFinding) -> go.Figure:
    """Every panel that the table has lines for."""
    import plotly.graph_objects as go

    table = finding.table
    wanted = ["kept"] + ["probing"] * bool((table["group"] == "probing").any())
    wanted += ["density", "norms"]
    figure = go.Figure()
    domains = _domains(wanted)
    draw = {"kept": _kept, "probing": _probing, "density": _density, "norms": _norms}
    named: set[str] = set()
    for number, name in enumerate(wanted, start=1):
        axis = "" if number == 1 else str(number)
        draw[name](figure, finding, axis, domains[name], named)
        _head(figure, name, domains[name][1])
    rows = int(table.loc[table["key"] == "l0", "n"].iloc[0])
    l0 = finding.value("l0")
    figure.update_layout(
        title={
            "text": "A sparse autoencoder beside simpler codes<br><span style='font-size:13px'>"
            f"{_place(finding)}<br>{l0:.1f} of {finding.latents:,} latents at a time; {rows:,} rows"
            "</span>",
            "y": 1 - 18 / _height(wanted),
            "yanchor": "top",
            "automargin": False,
        },
        height=_height(wanted),
        margin={"t": TOP, "b": BOTTOM, "l": 104, "r": 40},
        legend={
            "x": 0, "y": 1 + 46 / _drawn(wanted), "yanchor": "bottom", "font": {"size": 12},
        },
        hovermode="closest",
        bargap=0.08,
    )
    return themed(figure)


TITLES = {
    "kept": ("What is kept by so few latents", "1: all of it; bars: 95 % over texts"),
    "probing": ("How well a label is read from few latents", "on held-out texts; chance is 0.5"),
    "density": ("How often latents are active", "bars: this SAE; dashed: random directions"),
    "norms": (
        "Are codes as long as what they stand for?",
        "line: yes; below: parts are missing, or latents overlap<br>"
        "dotted: ||z|² − |f|²| / |f|² of 0.25, 0.5, 1; dots: rows",
    ),
}


def _place(finding: SAEFinding) -> str:
    site = str(finding.provenance.parameters.get("site") or "")
    return plain(site) if site else "rows of no named site"


def _height(wanted: list[str]) -> int:
    return TOP + BOTTOM + _drawn(wanted)


def _drawn(wanted: list[str]) -> int:
    """Pixels from the first panel's top to the last one's bottom."""
    return round(52 * (sum(HEIGHTS[name] for name in wanted) + GAP * (len(wanted) - 1)))


def _domains(wanted: list[str]) -> dict[str, tuple[float, float]]:
    whole = sum(HEIGHTS[name] for name in wanted) + GAP * (len(wanted) - 1)
    top, found = whole, {}
    for name in wanted:
        found[name] = (max(0.0, (top - HEIGHTS[name]) / whole), top / whole)
        top -= HEIGHTS[name] + GAP
    return found


def _head(figure: go.Figure, name: str, top: float) -> None:
    title, below = TITLES[name]
    figure.add_annotation(
        text=f"<b>{title}</b><br><span style='font-size:12px'>{below}</span>", x=0, xref="paper",
        y=top, yref="paper", xanchor="left", yanchor="bottom", yshift=6, xshift=-80,
        showarrow=False, align="left", font={"size": 14},
    )  # fmt: skip


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


def _kept(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
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


def _probing(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
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
                text=[""] * (len(x) - 1) + [what], textposition="top left",
                textfont={"color": COLORS["baseline"]}, hoverinfo="skip",
            )  # fmt: skip
    label = plain(lines["part"].iloc[0])
    _axes(
        figure, axis, domain,
        {"type": "category", "title": {"text": f"latents (or dimensions) a probe of {label} may read"}},
        {"title": {"text": "balanced accuracy"}},
    )  # fmt: skip


def _density(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
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
    dead = finding.line("dead_share")
    count = round(float(dead["value"]) * finding.latents)
    figure.add_annotation(
        text=f"never active: {count:,} of {finding.latents:,} latents<br>(in {dead['n']:,} rows)",
        x=0, xref="paper", xshift=8, y=domain[1], yref="paper", xanchor="left", yanchor="top",
        yshift=-6, align="left", showarrow=False,
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


def _norms(
    figure: go.Figure,
    finding: SAEFinding,
    axis: str,
    domain: tuple[float, float],
    named: set[str],
) -> None:
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
