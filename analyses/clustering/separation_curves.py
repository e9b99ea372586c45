"""Curves of separation by layer, with interval, twin and null; a menu chooses the measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENCE, band, plain
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.clustering.word_class_finding import WordClassFinding

MEASURES = {
    "gdv": ("GDV", "GDV (lower: further apart)"),
    "relative": ("GDV, share of its floor", "GDV / floor (1: as far as can be)"),
    "silhouette": ("silhouette", "mean silhouette"),
    "purity": ("neighbour purity", "neighbours of the same class"),
    "ari": ("k-means, ARI", "adjusted Rand index of k-means"),
    "nmi": ("k-means, NMI", "normalised information of k-means"),
    "fisher": ("Fisher's ratio", "scatter between / within classes"),
    "nc1": ("NC1", "NC1 (lower: further apart)"),
}
"""In the menu, and on the axis."""
KIND_COLORS = {"next": COLORS["value"], "current": SEQUENCE[2]}


def add_curves(
    figure: go.Figure, finding: WordClassFinding, *, within: tuple[float, float]
) -> None:
    """Draw every measure on the axes ``x2`` and ``y2``; all but the first wait for the menu.

    The twin's lines have the colours of the kinds, and one entry in the legend.
    """
    owners: list[str] = []
    for measure in MEASURES:
        for number, kind in enumerate(finding.kinds):
            lines = _lines(finding, measure, kind)
            for trace in _traces(lines, kind, first=number == 0):
                figure.add_scatter(
                    **trace, xaxis="x2", yaxis="y2", legend="legend2", visible=measure == "gdv"
                )
                owners.append(measure)
    places = _lines(finding, "gdv", finding.kinds[0])
    ticks = dict(zip(_layers(places), _names(places), strict=True))
    figure.update_layout(
        xaxis2={
            "title": "layer",
            "anchor": "y2",
            "tickvals": list(ticks),
            "ticktext": list(ticks.values()),
        },
        yaxis2={"title": MEASURES["gdv"][1], "domain": list(within), "anchor": "x2"},
        legend2={"orientation": "h", "x": 0, "y": within[1] + 0.005, "yanchor": "bottom"},
    )
    figure.update_layout(updatemenus=[_menu(owners, within[1])])


def _lines(finding: WordClassFinding, measure: str, kind: str) -> pd.DataFrame:
    """Lines of one measure; the share of the floor is the GDV in another unit."""
    if measure != "relative":
        return finding.curve(measure, kind)
    lines = finding.curve("gdv", kind)
    lines["ci_low"], lines["ci_high"] = lines["ci_high"], lines["ci_low"]
    columns = [c for c in ("value", "ci_low", "ci_high", "null_mean", "twin") if c in lines]
    lines[columns] = lines[columns].div(lines["floor"], axis=0)
    lines["null_sd"] /= lines["floor"].abs()
    return lines


def _traces(lines: pd.DataFrame, kind: str, *, first: bool) -> list[dict[str, Any]]:
    color, x = KIND_COLORS[kind], _layers(lines)
    traces = []
    if len(lines) > 1 and lines["ci_low"].notna().all():
        traces.append(band(x, lines["ci_low"], lines["ci_high"], color))
    traces.append(
        {
            "x": x,
            "y": lines["value"],
            "name": f"{kind} word",
            "mode": "lines+markers",
            "line": {"color": color},
            "customdata": [_hover(line, kind) for _, line in lines.iterrows()],
            "hovertemplate": "%{customdata}<extra></extra>",
        }
    )
    if "twin" in lines and lines["twin"].notna().any():
        told = [f"{kind} word, untrained twin: {value:.3f}" for value in lines["twin"]]
        line = {"color": color, "dash": DASHES["twin"], "width": 1.5}
        traces.append(
            _quiet(x, lines["twin"], "untrained twin", line, told) | {"showlegend": first}
        )
    told = [
        f"shuffled labels: {mean:.4f} (sd {sd:.4f})"
        for mean, sd in zip(lines["null_mean"], lines["null_sd"], strict=True)
    ]
    line = {"color": COLORS["baseline"], "dash": DASHES["baseline"], "width": 1.5}
    low, high = (lines["null_mean"] + sign * 2 * lines["null_sd"] for sign in (-1, 1))
    if len(lines) > 1:
        traces.append(band(x, low, high, COLORS["baseline"], 0.3))
    traces.append(
        _quiet(x, lines["null_mean"], "shuffled labels", line, told) | {"showlegend": first}
    )
    return traces


def _quiet(
    x: list[int], y: Any, name: str, line: dict[str, Any], told: list[str]
) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "name": name,
        "mode": "lines" if len(x) > 1 else "markers",
        "line": line,
        "marker": {"color": line["color"], "symbol": "line-ew-open", "size": 12},
        "customdata": told,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(line: pd.Series[Any], kind: str) -> str:
    spread = spoken(line["ci_low"], line["ci_high"], ".3f")
    text = f"<b>{plain(line['site'])}</b>, {kind} word<br>{line['value']:.3f}{spread}"
    text += f"<br>shuffled labels {line['null_mean']:.4f} (sd {line['null_sd']:.4f})"
    if "twin" in line and line["twin"] == line["twin"]:
        text += f"<br>untrained twin {line['twin']:.3f}"
    return text + f"<br>n = {line['n']:,} in {line['n_groups']:,} groups"


def _layers(lines: pd.DataFrame) -> list[int]:
    """Layer numbers; the order of the sites where they are no layers."""
    if lines["layer"].notna().all() and not lines["layer"].duplicated().any():
        return [int(layer) for layer in lines["layer"]]
    return list(range(len(lines)))


def _names(lines: pd.DataFrame) -> list[str]:
    if lines["layer"].notna().all() and not lines["layer"].duplicated().any():
        return ["embed" if layer < 0 else str(layer) for layer in lines["layer"]]
    return [plain(site) for site in lines["site"]]


def place_of(finding: WordClassFinding) -> dict[str, tuple[int, str]]:
    """Where each site is on the layer axis, and what it is called there."""
    lines = finding.curve("gdv")
    return dict(zip(lines["site"], zip(_layers(lines), _names(lines), strict=True), strict=True))


def _menu(owners: list[str], top: float) -> dict[str, Any]:
    buttons = []
    for measure, (name, title) in MEASURES.items():
        scale = "log" if measure == "nc1" else "linear"
        axis = {"yaxis2.title.text": title, "yaxis2.type": scale, "yaxis2.autorange": True}
        visible = [owner == measure for owner in owners]
        arguments = [{"visible": visible}, axis, list(range(len(owners)))]
        buttons.append({"label": name, "method": "update", "args": arguments})
    return {
        "buttons": buttons,
        "x": 1.0,
        "xanchor": "right",
        "y": top + (0.07 if top < 1 else 0.12),
        "yanchor": "bottom",
        "direction": "up",
    }
