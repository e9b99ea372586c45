"""How the table of `geometry` is drawn: curves over depth in panels, each above its null."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.curves import curve, interval
from layerscope.theme import COLORS, DASHES, SEQUENCE, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PANELS = (
    ("Participation ratio", {"participation_ratio": "value"}),
    ("Effective rank", {"effective_rank": "value"}),
    ("TwoNN dimension", {"twonn": "value"}),
    ("Share of the first direction", {"top_share": "value"}),
    (
        "Mean cosine of two rows",
        {
            "cosine": "as it is",
            "cosine_without_3": "without 3 outlier dimensions",
            "cosine_centred": "mean taken off",
        },
    ),
)
_COSINES = dict(
    zip(PANELS[-1][1].values(), (COLORS["value"], SEQUENCE[2], SEQUENCE[5]), strict=True)
)


def panels(table: pd.DataFrame) -> go.Figure:
    """Five panels by depth, and the spectrum of each layer on logarithmic axes."""
    from plotly.subplots import make_subplots

    titles = [*(title for title, _ in PANELS), "Share of variance by rank"]
    figure = make_subplots(
        rows=3, cols=2, subplot_titles=titles, vertical_spacing=0.1, horizontal_spacing=0.12
    )
    lines, ticks = _placed(table[table["part"] == "measure"])
    for number, (_, measures) in enumerate(PANELS):
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        _panel(figure, lines, measures, place)
        figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()), **place)
        axis = (
            {"type": "log", "tickvals": _TICKS} if "twonn" in measures else {"rangemode": "tozero"}
        )
        figure.update_yaxes(**axis, **place)
    _spectra(figure, table[table["part"] == "spectrum"], {"row": 3, "col": 2})
    for column in (1, 2):
        figure.update_xaxes(title="layer", row=2, col=column)
    figure.update_xaxes(title="layer", row=3, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        title={"text": "The shape of each layer's rows", "y": 0.985, "yanchor": "top"},
        height=1040,
        hovermode="closest",
        margin={"t": 200},  # the legend is six lines long on a narrow page
        legend={"y": 1.04, "yanchor": "bottom"},
    )
    by_layer = table.loc[table["part"] == "measure", "layer"]
    if by_layer.nunique() == lines["site"].nunique():
        mark_layers(figure, by_layer, *("x", "x2", "x3", "x4", "x5"))
    return themed(figure)


def _placed(lines: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """Lines with a whole number for the axis, and its labels: thinned where there are many."""
    sites = list(dict.fromkeys(lines["site"]))
    if lines["layer"].notna().all() and lines["layer"].nunique() == len(sites):
        lines = lines.assign(layer=lines["layer"].astype(int))
        numbers = sorted(set(lines["layer"]))
        every = max(1, round(len(numbers) / 8))
        shown = [n for n in numbers if n >= 0][::every]
        return lines, {n: str(n) for n in shown} | ({-1: "embed"} if -1 in numbers else {})
    return lines.assign(layer=lines["site"].map(sites.index)), dict(enumerate(map(plain, sites)))


def _panel(
    figure: go.Figure, lines: pd.DataFrame, measures: dict[str, str], place: dict[str, int]
) -> None:
    several = len(measures) > 1
    for number, (measure, name) in enumerate(measures.items()):
        part = lines[lines["measure"] == measure].sort_values("layer")
        if not len(part):
            continue
        color = _COSINES[name] if several else COLORS["value"]
        shown = "this model" if number == 0 else f"{name} (cosine)"
        for band in interval(part, "ci_low", "ci_high", color):
            figure.add_trace(band, **place)
        first = place == {"row": 1, "col": 1}
        if number == 0:
            figure.add_scatter(
                **curve(
                    part,
                    "null_mean",
                    "null: independent features",
                    COLORS["baseline"],
                    DASHES["baseline"],
                    _hover,
                    named=first,
                ),
                **place,
            )
            if "twin" in part and part["twin"].notna().any():
                figure.add_scatter(
                    **curve(
                        part,
                        "twin",
                        "untrained twin",
                        COLORS["twin"],
                        DASHES["twin"],
                        _hover,
                        named=first,
                    ),
                    **place,
                )
        figure.add_scatter(
            **curve(part, "value", shown, color, "solid", _hover, named=first or number > 0),
            **place,
        )


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    text = f"<b>{plain(line['site'])}</b><br>{plain(name)}: {line[column]:.3f}"
    if column == "value":
        text += spoken(line["ci_low"], line["ci_high"], ".3f")
        text += f"<br>independent features of the same variances: {line['null_mean']:.3f}"
        text += f"<br>isotropic rows: {line['isotropic']:.3f}"
        text += f"<br>{line['estimator']}, n = {line['n']:,}"
    return text


def _spectra(figure: go.Figure, lines: pd.DataFrame, place: dict[str, int]) -> None:
    sites = list(dict.fromkeys(lines["site"]))
    for number, site in enumerate(sites):
        part = lines[lines["site"] == site]
        position = number / max(1, len(sites) - 1)
        figure.add_scatter(
            x=part["rank"],
            y=part["value"].where(part["value"] > 1e-9),
            mode="lines",
            line={"color": _depth(position), "width": 1.75},
            showlegend=False,
            name=plain(site),
            hovertemplate=f"<b>{plain(site)}</b><br>rank %{{x}}: %{{y:.2e}} of the variance"
            "<extra></extra>",
            **place,
        )
    _ends(figure, sites, place)
    figure.update_xaxes(type="log", title="rank", dtick=1, **place)
    figure.update_yaxes(type="log", dtick=1, tickformat="~%", **place)


def _ends(figure: go.Figure, sites: list[str], place: dict[str, int]) -> None:
    """A colour bar for depth, in place of a legend line per layer."""
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        marker={
            "color": [0, len(sites) - 1],
            "colorscale": [[i / 2, color] for i, color in enumerate(_SHADES)],
            "cmin": 0,
            "cmax": max(1, len(sites) - 1),
            "colorbar": {
                "title": {"text": "layer"},
                "tickvals": [0, max(1, len(sites) - 1)],
                "ticktext": ["first", "last"],
                "len": 0.22,
                "y": 0.12,
                "x": 1.0,
                "thickness": 10,
                "outlinewidth": 0,
            },
        },
        **place,
    )


_SHADES = ("#0072b2", "#7d7d7d", "#d55e00")
_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def _depth(position: float) -> str:
    """From the colour of the first layer to that of the last, seen on both backgrounds."""
    from plotly.colors import sample_colorscale

    return str(sample_colorscale([[i / 2, c] for i, c in enumerate(_SHADES)], [position])[0])
