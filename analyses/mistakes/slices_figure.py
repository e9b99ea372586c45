"""How `slices` is drawn: one line for each slice, with its interval, the worst on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.theme import COLORS, SEQUENCE, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SHOWN = 16
_KINDS = {
    "column": ("value of a column", COLORS["value"], "circle"),
    "cluster": ("cluster of errors", SEQUENCE[1], "diamond"),
}
_LONGEST = 36


def draw(table: pd.DataFrame) -> go.Figure:
    """Error rate inside minus outside, on groups that did not choose the slice."""
    import plotly.graph_objects as go

    lines = table[table["part"] != "direction"]
    several = lines["site"].nunique() > 1
    lines = lines.nlargest(SHOWN, "value").iloc[::-1]
    names = [_name(line, several) for _, line in lines.iterrows()]
    figure = go.Figure()
    for part, (name, color, symbol) in _KINDS.items():
        own = (lines["part"] == part).to_numpy()
        if own.any():
            figure.add_scatter(
                **_marks(
                    lines[own],
                    [n for n, o in zip(names, own, strict=True) if o],
                    name,
                    color,
                    symbol,
                )
            )
    figure.add_scatter(
        x=lines["found_value"],
        y=names,
        name="promised by the first half",
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 10, "color": COLORS["baseline"]},
        hovertemplate="%{y}<br>first half: %{x:+.1%}<extra></extra>",
    )
    figure.add_vline(x=0, line={"color": COLORS["baseline"], "width": 1})
    figure.update_layout(
        title={
            "text": f"Where the probe of {plain(lines['label'].iloc[0])} fails",
            "x": 0.01,
            "xref": "container",
        },
        xaxis={"title": "error rate inside minus outside", "tickformat": "+.0%"},
        yaxis={"automargin": True, "categoryorder": "array", "categoryarray": names},
        height=190 + 24 * len(lines),
        hovermode="closest",
        margin={"t": 120},
    )
    return themed(figure)


def _marks(
    lines: pd.DataFrame, names: list[str], name: str, color: str, symbol: str
) -> dict[str, Any]:
    return {
        "x": lines["value"],
        "y": names,
        "name": name,
        "mode": "markers",
        "marker": {"color": color, "size": 9, "symbol": symbol},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": lines["ci_high"] - lines["value"],
            "arrayminus": lines["value"] - lines["ci_low"],
            "color": color,
        },
        "customdata": [_hover(line) for _, line in lines.iterrows()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _name(line: pd.Series[Any], several: bool) -> str:
    text = str(line["slice"])
    if line["part"] == "cluster" and line.get("enriched"):
        text += f": {str(line['enriched']).split(' (')[0]}"
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return plain(f"{line['site']}: {text}" if several else text)


def _hover(line: pd.Series[Any]) -> str:
    text = (
        f"<b>{plain(line['slice'])}</b><br>errs on {line['error']:.1%} of {line['rows']:,} rows, "
        f"elsewhere on {line['baseline']:.1%}<br>difference {line['value']:+.1%} "
        f"({line['ci_low']:+.1%} to {line['ci_high']:+.1%})"
    )
    if isinstance(line.get("enriched"), str) and line["enriched"]:
        text += "<br>more of: " + "<br>".join(plain(x) for x in line["enriched"].split("; "))
    return text + "<br>" + "<br>".join(plain(x) for x in str(line["examples"]).split("\n")[:3])
