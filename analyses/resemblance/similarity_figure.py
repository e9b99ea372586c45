"""How the table of `similarity` is drawn: one heat map per measure, bright where layers are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.resemblance.cells import MEASURES
from layerscope.theme import SEQUENTIAL, mark_layers, plain, themed
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ENDS = {"procrustes": 2.0, "shape_angle": 1.5708}
"""Distances have scales of their own; all others run from 0 to 1."""
_SHORT = {"procrustes": "d²", "shape_angle": "angle"}
_WRITTEN = 8
"""Columns up to which the numbers stand in the cells."""


def maps(table: pd.DataFrame) -> go.Figure:
    """Layers of `b` to the right, of `a` upwards; over checkpoints: steps to the right."""
    from plotly.subplots import make_subplots

    panels = _panels(table)
    columns = min(2, len(panels))
    count = -(-len(panels) // columns)
    height = 330 * count + 110
    figure = make_subplots(
        rows=count,
        cols=columns,
        subplot_titles=[title for title, _, _ in panels],
        vertical_spacing=95 / height if count > 1 else 0.0,
        horizontal_spacing=0.13,
    )
    scales: dict[str, str] = {}
    for number, (_, measure, column) in enumerate(panels):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        scale = measure if measure in _ENDS else "similarity"
        axis = scales.setdefault(scale, "coloraxis" + (str(len(scales) + 1) if scales else ""))
        figure.add_trace(_cells(table[table["measure"] == measure], column, axis), **place)
        left, below = _axes(table)
        lowest = number + columns >= len(panels)
        figure.update_xaxes(title=below if lowest else "", type="category", **place)
        figure.update_yaxes(title=left if place["col"] == 1 else "", type="category", **place)
    for number, (scale, axis) in enumerate(scales.items()):
        figure.update_layout({axis: _scale(scale, 1 - number * 250 / height)})
    figure.update_annotations(font_size=13)
    figure.update_layout(
        title={"text": _title(table), "y": 1 - 10 / height, "yanchor": "top"},
        height=height,
        margin={"t": 76, "r": 70},
    )
    steps = table["part"].iloc[0] == "steps"
    for letter, name in (("x", "other_"), ("y", "")):
        if not (steps and letter == "x"):
            first = table.drop_duplicates(f"{name}site")
            axes = (f"{letter}{number or ''}" for number in (0, *range(2, len(panels) + 1)))
            mark_layers(figure, first[f"{name}layer"], *axes, at=range(len(first)))
    return themed(figure)


def _panels(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Title, measure and column of each map."""
    found = []
    for measure in dict.fromkeys(table["measure"]):
        title = MEASURES[str(measure)].title
        found.append((title, str(measure), "value"))
        if "twin" in table and table.loc[table["measure"] == measure, "twin"].notna().any():
            found.append(("untrained twin", str(measure), "twin"))
    return found


def _cells(lines: pd.DataFrame, column: str, axis: str) -> go.Heatmap:
    import plotly.graph_objects as go

    steps = lines["part"].iloc[0] == "steps"
    x, y = ("a", "site") if steps else ("other_site", "site")
    order = [list(dict.fromkeys(lines[name])) for name in (x, y)]
    texts = lines.assign(text=[_hover(line, column) for _, line in lines.iterrows()])
    cells, hovers = (
        frame.pivot(index=y, columns=x, values=name).loc[order[1], order[0]]
        for frame, name in ((lines, column), (texts, "text"))
    )
    return go.Heatmap(
        z=cells.to_numpy(),
        x=[_short(name) for name in order[0]],
        y=[_short(name) for name in order[1]],
        customdata=hovers.to_numpy(),
        hovertemplate="%{customdata}<extra></extra>",
        coloraxis=axis,
        texttemplate="%{z:.2f}" if len(order[0]) <= _WRITTEN else "",
        textfont={"size": 11},
        xgap=1,
        ygap=1,
    )


def _short(site: str) -> str:
    """``blocks.3.resid_post`` as ``3``."""
    return plain(site.removeprefix("blocks.").removesuffix(".resid_post"))


def _hover(line: pd.Series[Any], column: str) -> str:
    steps = line["part"] == "steps"
    pair = f"{line['site']} of {line['a']} and {line['other_site']} of {line['b']}"
    if line["part"] == "within":
        pair = f"{line['site']} and {line['other_site']}"
    if steps:
        pair = f"{line['site']}: {line['a']} and {line['b']}"
    low, high = ("ci_low", "ci_high") if column == "value" else ("twin_low", "twin_high")
    title = MEASURES[line["measure"]].title
    text = (
        f"<b>{plain(pair)}</b><br>{title}: {line[column]:.3f}{spoken(line[low], line[high], '.3f')}"
    )
    if column == "value":
        text += f"<br>rows in random order: {line['null_mean']:.3f} ± {line['null_sd']:.3f}"
        if "twin" in line:
            text += f"<br>untrained twin: {line['twin']:.3f}"
    return text + f"<br>{line['n']:,} rows in {line['n_groups']:,} groups"


def _axes(table: pd.DataFrame) -> tuple[str, str]:
    part, a, b = table[["part", "a", "b"]].iloc[0]
    if part == "within":
        return "layer", "layer"
    if part == "steps":
        return "layer", f"checkpoint, against {plain(b)}"
    return f"layer of {plain(a)}", f"layer of {plain(b)}"


def _title(table: pd.DataFrame) -> str:
    part, a, b = table[["part", "a", "b"]].iloc[0]
    if part == "within":
        return "How alike two layers are"
    if part == "steps":
        return f"How alike each layer already is to itself in {plain(b)}"
    return f"How alike the layers of {plain(a)} and {plain(b)} are"


def _scale(name: str, top: float) -> dict[str, Any]:
    colors = list(SEQUENTIAL)
    return {
        "colorscale": colors[::-1] if name in _ENDS else colors,
        "autocolorscale": False,
        "cmin": 0,
        "cmax": _ENDS.get(name, 1.0),
        "colorbar": {
            "title": {"text": _SHORT.get(name, "alike"), "font": {"size": 12}},
            "lenmode": "pixels",
            "len": 220,
            "y": top,
            "yanchor": "top",
            "thickness": 12,
            "outlinewidth": 0,
            "x": 1.02,
        },
    }
