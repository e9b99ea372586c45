"""How the table of `mutual_information` is drawn."""

from __future__ import annotations

from math import isfinite, isnan
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from layerscope.analyses.information.verdict import NOTHING
from layerscope.analyses.material.curves import interval
from layerscope.theme import COLORS, DASHES, SEQUENCE, faded, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_VERDICTS = {
    "value": ("good", "Believed"),
    "unreliable": ("bad", "Unreliable: no value is given"),
    "proxy": ("other", "A proxy, not the mutual information"),
    "refused": ("bad", "Refused"),
}
_BOUNDS = {
    "estimate": "",
    "lower": " (lower bound)",
    "upper": " (upper bound)",
    "proxy": " (proxy)",
}


def one_pair(table: pd.DataFrame) -> go.Figure:
    """Estimators below each other: value with interval, what permuted pairs give, the ceiling."""
    import plotly.graph_objects as go

    figure, first, far = go.Figure(), table.iloc[0], ""
    lines = table[table["value"].notna()].sort_values("decides", kind="stable")
    color, head = _VERDICTS[first["verdict"]]
    color = "other" if str(first["reason"]).startswith(NOTHING) else color
    if len(lines):
        _band(figure, first, COLORS[color])
        _nulls(figure, lines)
        _values(figure, lines)
        far = _ceiling(figure, lines)
    names = [_name(line) for _, line in lines.iterrows()]
    unit = first["unit"]
    said = wrap(plain(_headline(first, head)), 50)
    figure.update_layout(
        title={
            "text": "<br>".join(said),
            "font": {"size": 14},
            "x": 0.02,
            "xref": "container",
            "y": 0.96,
            "yanchor": "top",
        },
        height=340 + 48 * len(names),
        margin={"t": 96 + 20 * len(said), "b": 70},  # three lines of legend, on a narrow page
        hovermode="closest",
        legend={"y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(title=f"mutual information, {unit}{far}", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=names, showgrid=False)
    if not len(lines):
        text = "<br>".join(wrap(plain(first["reason"]), 56))
        figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return themed(figure)


def by_site(table: pd.DataFrame) -> go.Figure:
    """By layer: what decides with its interval, what checks it, the null, and the ceiling."""
    import plotly.graph_objects as go

    figure = go.Figure()
    sites = list(dict.fromkeys(table["site"]))
    table = table.assign(layer=table["site"].map(sites.index))
    names = list(dict.fromkeys(table.loc[table["value"].notna(), "estimator"]))
    colors = (COLORS["value"], SEQUENCE[3], SEQUENCE[2], SEQUENCE[5])
    for number, name in enumerate(names):
        part = table[(table["estimator"] == name) & table["value"].notna()].sort_values("layer")
        color = colors[number % len(colors)]
        for band in interval(part, "ci_low", "ci_high", color):
            figure.add_trace(band)
        hover = [_hover(line) for _, line in part.iterrows()]
        title = f"{part['title'].iloc[0]}{_BOUNDS[part['bound'].iloc[0]]}"
        if not number:
            _line(figure, part, "null_mean", "null: shuffled pairs", "baseline", "baseline")
            if part["ceiling"].map(isfinite).all():
                _line(figure, part, "ceiling", _ceiling_name(part.iloc[0]), "control", "control")
        figure.add_scatter(
            x=part["layer"], y=part["value"], name=plain(title), mode="lines+markers",
            line={"color": color, "dash": "solid" if not number else "dashdot"},
            marker={"size": 7, "symbol": [_symbol(line) for _, line in part.iterrows()]},
            customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    first = table.iloc[0]
    of = f" about {first['label']}" if first["label"] else ""
    figure.update_layout(
        title={"text": plain(f"What each layer tells{of}"), "y": 0.98, "yanchor": "top"},
        height=500,
        margin={"t": 140},
        hovermode="closest",
    )
    figure.update_yaxes(title=f"mutual information, {first['unit']}", rangemode="tozero")
    every = max(1, round(len(sites) / 12))
    ticks = range(0, len(sites), every)
    figure.update_xaxes(
        title="site", tickvals=list(ticks), ticktext=[plain(_short(sites[i])) for i in ticks]
    )
    return themed(figure)


def _symbol(line: pd.Series[Any]) -> str:
    """Open where nothing was told apart from 0, a cross where no value is given."""
    if line["verdict"] != "value":
        return "x"
    return "circle-open" if str(line["reason"]).startswith(NOTHING) else "circle"


def _headline(first: pd.Series[Any], head: str) -> str:
    if first["verdict"] in ("value", "proxy"):
        around = spoken(first["verdict_low"], first["verdict_high"], ".2f")
        least = "at least " if first["kind"] == "labels" else ""
        if str(first["reason"]).startswith(NOTHING):
            why = first["reason"].removeprefix(f"{NOTHING}: ")
            number = f"{first['verdict_value']:.2f} {first['unit']}{around}"
            return f"{NOTHING.capitalize()}: {number} ({why})"
        head = f"{head}: {least}{first['verdict_value']:.2f} {first['unit']}{around}"
    return f"{head} ({first['reason']})" if first["verdict"] != "refused" else head


def _name(line: pd.Series[Any]) -> str:
    mark = "<b>{}</b>" if line["decides"] else "{}"
    text = plain(f"{line['title']}{_BOUNDS[line['bound']]}")
    return mark.format("<br>".join(wrap(text, 22)))


def _band(figure: go.Figure, first: pd.Series[Any], color: str) -> None:
    """What the verdict leaves possible, behind everything."""
    low, high = first["verdict_low"], first["verdict_high"]
    if not isnan(low) and first["verdict"] in ("value", "proxy"):
        figure.add_vrect(x0=low, x1=high, fillcolor=faded(color, 0.14), line_width=0, layer="below")


def _values(figure: go.Figure, lines: pd.DataFrame) -> None:
    for decides, name in ((True, "decides"), (False, "shown, does not decide")):
        part = lines[lines["decides"] == decides]
        if not len(part):
            continue
        color = COLORS["value"] if decides else COLORS["other"]
        figure.add_scatter(
            x=part["value"], y=[_name(line) for _, line in part.iterrows()], name=name,
            mode="markers",
            marker={"size": 9, "color": color, "symbol": "circle" if decides else "circle-open"},
            error_x={
                "type": "data", "symmetric": False, "color": color,
                "array": (part["ci_high"] - part["value"]).fillna(0),
                "arrayminus": (part["value"] - part["ci_low"]).fillna(0),
            },
            customdata=[_hover(line) for _, line in part.iterrows()],
            hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip


def _nulls(figure: go.Figure, lines: pd.DataFrame) -> None:
    figure.add_scatter(
        x=lines["null_mean"], y=[_name(line) for _, line in lines.iterrows()],
        name="null: permuted pairs, ± 2 sd", mode="markers",
        marker={"symbol": "diamond", "size": 8, "color": COLORS["control"]},
        error_x={"type": "data", "array": (2 * lines["null_sd"]).fillna(0), "color": COLORS["control"]},
        hoverinfo="skip",
    )  # fmt: skip


def _ceiling(figure: go.Figure, lines: pd.DataFrame) -> str:
    """Draws the ceiling, or says where it is if it would push everything else together."""
    shown = lines[lines["ceiling"].map(isfinite)]
    if not len(shown):
        return ""
    most = max(shown["value"].max(), shown["ci_high"].max())
    if shown["ceiling"].min() > 3 * most:
        return f"<br>{_ceiling_name(shown.iloc[0])} = {shown['ceiling'].min():.1f}, not drawn"
    figure.add_scatter(
        x=shown["ceiling"], y=[_name(line) for _, line in shown.iterrows()],
        name=_ceiling_name(shown.iloc[0]), mode="markers",
        marker={"symbol": "line-ns-open", "size": 18, "color": COLORS["baseline"], "line": {"width": 2}},
        hoverinfo="skip",
    )  # fmt: skip
    return ""


def _ceiling_name(line: pd.Series[Any]) -> str:
    named = {
        "continuous": "ceiling: most that so many rows let it say",
        "labels": "ceiling: H(label)",
    }
    return named.get(line["kind"], "ceiling: the smaller entropy")


def _line(
    figure: go.Figure, part: pd.DataFrame, column: str, name: str, color: str, dash: str
) -> None:
    figure.add_scatter(
        x=part["layer"], y=part[column], name=name, mode="lines",
        line={"color": COLORS[color], "dash": DASHES[dash]}, hoverinfo="skip",
    )  # fmt: skip


def _hover(line: pd.Series[Any]) -> str:
    unit = line["unit"]
    return "<br>".join(
        (
            f"<b>{plain(line['title'])}</b> at {plain(line['site'])}",
            f"{line['value']:.3f} {unit}{spoken(line['ci_low'], line['ci_high'], '.3f')}",
            f"permuted pairs {line['null_mean']:.3f} ± {line['null_sd']:.3f}",
            (f"ceiling {line['ceiling']:.2f}" if isfinite(line["ceiling"]) else "no ceiling")
            + f"; n = {line['n']:,}",
            *wrap(plain(f"valid for: {line['regime']}"), 60),
            *wrap(plain(f"verdict: {line['verdict']}, {line['reason']}"), 60),
        )
    )


def _short(site: str) -> str:
    return site.removeprefix("blocks.").removesuffix(".resid_post")
