"""How `concept_erasure` is drawn: what a probe finds, above what the model loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, DASHES, SEQUENCE, band, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_NAMES = {"leace": "LEACE", "inlp": "INLP", "mean_difference": "class means projected out"}
_TINTS = {"leace": SEQUENCE[2], "inlp": SEQUENCE[3], "mean_difference": SEQUENCE[5]}
_DASH = {"leace": "solid", "inlp": "dashdot", "mean_difference": "longdash"}


def draw(table: pd.DataFrame) -> go.Figure:
    """Probe scores by site on top; below, the loss that erasing adds beside that of the controls."""
    from plotly.subplots import make_subplots

    read = table[table["part"] == "decodable"]
    used = table[
        (table["part"] == "used")
        & (table["measure"] == "loss")
        & (table["scope"] == "all")
        & (table["site"] != "all")
    ]
    label = plain(read["label"].iloc[0])
    figure = make_subplots(
        rows=2,
        cols=1,
        vertical_spacing=0.16,
        subplot_titles=[
            f"Decodable: {label} as a probe reads it",
            "Used: loss added when it is erased",
        ],
    )
    ticks = _ticks(read)
    _decodable(figure, read, ticks)
    _used(figure, used, ticks)
    names = dict(ticks.values())
    for row in (1, 2):
        figure.update_xaxes(
            title="layer", tickvals=list(names), ticktext=list(names.values()), row=row, col=1
        )
    unit = "R²" if read["measure"].iloc[0] == "R2" else "accuracy"
    figure.update_yaxes(title=unit, row=1, col=1)
    figure.update_yaxes(title=plain(used["unit"].iloc[0]).replace("/", " per "), row=2, col=1)
    figure.update_layout(
        height=700, hovermode="closest", margin={"t": 110}, legend={"y": 1.07, "tracegroupgap": 0}
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    of_site = read.drop_duplicates("site").set_index("site")["layer"]
    places = [place for place, _ in ticks.values()]
    return themed(mark_layers(figure, (of_site[site] for site in ticks), at=places))


def _ticks(read: pd.DataFrame) -> dict[str, tuple[int, str]]:
    """Site -> place and name on the axis."""
    sites = list(dict.fromkeys(read["site"]))
    layers = read.drop_duplicates("site").set_index("site")["layer"]
    if layers.notna().all() and layers.is_unique:
        return {s: (int(layers[s]), "embed" if layers[s] < 0 else str(layers[s])) for s in sites}
    return {site: (place, plain(site)) for place, site in enumerate(sites)}


def _decodable(figure: go.Figure, read: pd.DataFrame, ticks: dict[str, tuple[int, str]]) -> None:
    first = read[read["method"] == read["method"].iloc[0]]
    figure.add_scatter(
        **_line(first, "before", "probe before erasing", COLORS["value"], "solid", ticks),
        row=1,
        col=1,
    )
    for method, lines in read.groupby("method", sort=False):
        name = f"after {_NAMES[str(method)]}"
        figure.add_scatter(
            **_line(lines, "after", name, _TINTS[str(method)], _DASH[str(method)], ticks),
            row=1,
            col=1,
        )
    if first["measure"].iloc[0] == "accuracy":
        figure.add_scatter(
            **_line(
                first, "baseline", "majority class", COLORS["baseline"], DASHES["baseline"], ticks
            ),
            row=1,
            col=1,
        )
    figure.update_yaxes(rangemode="tozero", row=1, col=1)


def _used(figure: go.Figure, used: pd.DataFrame, ticks: dict[str, tuple[int, str]]) -> None:
    first = used[used["method"] == used["method"].iloc[0]]
    for column, name, color, dash in (
        ("null", "random directions, as many", COLORS["baseline"], "longdashdot"),
        ("matched", "random directions, equal variance", COLORS["control"], DASHES["control"]),
    ):
        lines = first[first[f"{column}_mean"].notna()]
        if len(lines):
            mean, sd = lines[f"{column}_mean"], lines[f"{column}_sd"]
            x = [ticks[site][0] for site in lines["site"]]
            figure.add_scatter(**band(x, mean - 2 * sd, mean + 2 * sd, color, 0.12), row=2, col=1)
            figure.add_scatter(
                **_line(lines, f"{column}_mean", name, color, dash, ticks), row=2, col=1
            )
    for method, lines in used.groupby("method", sort=False):
        color = _TINTS[str(method)]
        if lines["ci_low"].notna().all() and method == first["method"].iloc[0]:
            x = [ticks[site][0] for site in lines["site"]]
            figure.add_scatter(**band(x, lines["ci_low"], lines["ci_high"], color), row=2, col=1)
        figure.add_scatter(
            **_line(
                lines, "value", f"after {_NAMES[str(method)]}", color, _DASH[str(method)], ticks
            )
            | {"showlegend": False},
            row=2,
            col=1,
        )
    figure.add_hline(y=0, line={"color": COLORS["baseline"], "width": 1}, row=2, col=1)


def _line(
    lines: pd.DataFrame,
    column: str,
    name: str,
    color: str,
    dash: str,
    ticks: dict[str, tuple[int, str]],
) -> dict[str, Any]:
    return {
        "x": [ticks[site][0] for site in lines["site"]],
        "y": lines[column],
        "name": name,
        "mode": "lines" if column == "baseline" else "lines+markers",
        "line": {"color": color, "dash": dash},
        "marker": {"size": 6 if column in ("before", "after", "value") else 4},
        "customdata": [_hover(line, column, name) for _, line in lines.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{name}: {line[column]:.4f}"
    if column in ("after", "value"):
        text += f"<br>{line['rank']} of {line['width']} directions, {line['removed']:.1%} of the variance"
    if column == "value":
        text += f"<br>95 %{spoken(line['ci_low'], line['ci_high'], '.4f')}"
    if column.endswith("_mean"):
        text += f"<br>sd over draws {line[column.replace('mean', 'sd')]:.4f}"
    return text
