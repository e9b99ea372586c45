"""How clusters are drawn: their scores by layer, and below the clusters of a layer with their words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.clustering.partitions import NAMES
from layerscope.theme import COLORS, DASHES, SEQUENCE, SEQUENTIAL, band, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.analyses.clustering.clusters_finding import ClusterFinding

_TITLES = {
    "silhouette": "silhouette",
    "stability": "stability under resampling",
    "agreement": "agreement with the label",
}
_COLORS = {"kmeans": COLORS["value"], "hdbscan": SEQUENCE[2]}
_CURVES, _BARS = (0.72, 1.0), (0.0, 0.5)
_SHOWN = 5
"""Examples in a hover."""


def scores_and_clusters(finding: ClusterFinding) -> go.Figure:
    """Curves above, with a menu of scores; bars of one site below, with a menu of sites."""
    import plotly.graph_objects as go

    figure = go.Figure()
    scores = [one for one in _TITLES if (finding.table["part"] == one).any()]
    owners = _curves(figure, finding, scores)
    first = len(figure.data)
    views = _bars(figure, finding)
    places = finding.curve("silhouette")
    mark_layers(figure, places["layer"], "x", at=_ticks(places)["tickvals"])
    figure.update_layout(
        title={
            "text": "Clusters of hidden states, found without labels",
            "automargin": False,
            "y": 0.985,
        },
        height=1000,
        margin={"t": 112, "b": 130},
        hovermode="closest",
        xaxis={"title": "layer", "anchor": "y", **_ticks(places)},
        yaxis={"title": _TITLES[scores[0]], "domain": list(_CURVES), "anchor": "x"},
        xaxis2={"title": "rows in the cluster", "anchor": "y2", "rangemode": "tozero"},
        yaxis2={
            "type": "category",
            "title": "cluster",
            "domain": list(_BARS),
            "anchor": "x2",
            "autorange": "reversed",
            "automargin": True,
        },
        coloraxis={
            "colorscale": [list(stop) for stop in _stops()],
            "autocolorscale": False,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {
                "title": {"text": "stability", "side": "top"},
                "orientation": "h",
                "thickness": 12,
                "x": 0,
                "xanchor": "left",
                "y": -0.09,
                "yanchor": "top",
                "len": 0.6,
            },
        },
        updatemenus=[_score_menu(owners, scores), _site_menu(views, first, _shown(finding, views))],
    )
    return themed(figure)


def _stops() -> list[tuple[float, str]]:
    return [(i / (len(SEQUENTIAL) - 1), color) for i, color in enumerate(SEQUENTIAL)]


def _ticks(lines: pd.DataFrame) -> dict[str, Any]:
    if lines["layer"].notna().all() and not lines["layer"].duplicated().any():
        layers = [int(layer) for layer in lines["layer"]]
        return {"tickvals": layers, "ticktext": ["embed" if n < 0 else str(n) for n in layers]}
    return {"tickvals": list(range(len(lines))), "ticktext": [plain(s) for s in lines["site"]]}


def _curves(figure: go.Figure, finding: ClusterFinding, scores: list[str]) -> list[str]:
    owners = []
    for score in scores:
        for method in finding.methods:
            lines = finding.curve(score, method)
            x, color = _ticks(lines)["tickvals"], _COLORS[method]
            traces = []
            if len(lines) > 1 and lines["ci_low"].notna().all():
                traces.append(band(x, lines["ci_low"], lines["ci_high"], color))
            traces.append(_line(x, lines, "value", NAMES[method], color, "value"))
            if lines["null_mean"].notna().any():
                by = "shuffled labels" if score == "agreement" else "shuffled features"
                traces.append(
                    _line(x, lines, "null_mean", f"{NAMES[method]}, {by}", color, "control")
                )
            for trace in traces:
                figure.add_scatter(**trace, visible=score == scores[0])
                owners.append(score)
    return owners


def _line(
    x: list[int], lines: pd.DataFrame, column: str, name: str, color: str, dash: str
) -> dict[str, Any]:
    return {
        "x": x,
        "y": lines[column],
        "name": name,
        "mode": "lines+markers",
        "line": {"color": color, "dash": DASHES[dash], "width": 2.25 if dash == "value" else 1.5},
        "marker": {"size": 7 if dash == "value" else 4},
        "customdata": [_score(line, column, name) for _, line in lines.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _score(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b>, {name}<br>{line[column]:.3f}"
    if column == "value":
        text += spoken(line["ci_low"], line["ci_high"], ".3f")
        text += (
            f"<br>{line['clusters']} clusters, {line['noise']:.0%} of {line['n']:,} rows in none"
        )
    return text


def _bars(figure: go.Figure, finding: ClusterFinding) -> list[tuple[str, str]]:
    """One trace per site and method, one of them shown; returns what each trace is."""
    table = finding.table
    rows = table[table["part"] == "cluster"]
    views = [(str(m), str(s)) for m, s in rows[["method", "site"]].drop_duplicates().to_numpy()]
    views.sort(
        key=lambda view: (
            finding.methods.index(view[0]),
            list(rows["site"].unique()).index(view[1]),
        )
    )
    shown = _shown(finding, views)
    for number, (method, site) in enumerate(views):
        lines = rows[(rows["method"] == method) & (rows["site"] == site)].head(25)
        examples = table[
            (table["part"] == "example") & (table["method"] == method) & (table["site"] == site)
        ]
        figure.add_bar(
            x=lines["n"],
            y=[str(cluster) for cluster in lines["cluster"]],
            text=[plain(_short(words)) for words in lines["words"]],
            textposition="auto",
            insidetextanchor="start",
            cliponaxis=False,
            orientation="h",
            marker={"color": lines["stability"], "coloraxis": "coloraxis"},
            customdata=[_told(line, examples) for _, line in lines.iterrows()],
            hovertemplate="%{customdata}<extra></extra>",
            xaxis="x2",
            yaxis="y2",
            showlegend=False,
            visible=number == shown,
        )
    return views


def _shown(finding: ClusterFinding, views: list[tuple[str, str]]) -> int:
    """The last site of the first method."""
    own = [number for number, (method, _) in enumerate(views) if method == finding.methods[0]]
    return own[-1] if own else 0


def _short(words: str, most: int = 26) -> str:
    words = words.replace("\n", "⏎")
    return words if len(words) <= most else words[: most - 1].rstrip(", ") + "…"


def _told(line: pd.Series[Any], examples: pd.DataFrame) -> str:
    text = (
        f"<b>cluster {line['cluster']}</b>: {line['n']:,} rows, silhouette {line['value']:.2f}, "
        f"stability {line['stability']:.2f}"
    )
    if "commonest" in line and isinstance(line["commonest"], str):
        text += f"<br>{plain(line['commonest'])}: {line['share']:.0%} of the rows"
    own = examples[examples["cluster"] == line["cluster"]].head(_SHOWN)
    for one in own.to_dict("records"):
        text += f"<br>{plain(one['left'])}<b>{plain(one['token'])}</b>{plain(one['right'])}"
    return text


def _score_menu(owners: list[str], scores: list[str]) -> dict[str, Any]:
    buttons = [
        {
            "label": _TITLES[score],
            "method": "update",
            "args": [
                {"visible": [owner == score for owner in owners]},
                {"yaxis.title.text": _TITLES[score]},
                list(range(len(owners))),
            ],
        }
        for score in scores
    ]
    return {
        "buttons": buttons,
        "x": 1.0,
        "xanchor": "right",
        "y": _CURVES[0] - 0.075,
        "yanchor": "top",
    }


def _site_menu(views: list[tuple[str, str]], first: int, active: int) -> dict[str, Any]:
    traces = list(range(first, first + len(views)))
    buttons = [
        {
            "label": f"{NAMES[method]} at {plain(site)}",
            "method": "restyle",
            "args": [{"visible": [view == (method, site) for view in views]}, traces],
        }
        for method, site in views
    ]
    return {
        "buttons": buttons,
        "active": active,
        "x": 0.0,
        "xanchor": "left",
        "y": _BARS[1] + 0.015,
        "yanchor": "bottom",
    }
