"""How the table of `depth_use` is drawn: one panel for each measure, by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.curves import curve, interval
from layerscope.theme import COLORS, DASHES, mark_layers, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PANELS = {
    "relative_norm": "norm of what is added / norm of the stream",
    "cosine": "its cosine with the stream (below 0: erases)",
    "kl_lens_final": "KL(lens || final) at the block's input, in nats",
    "overlap": "share of the final top tokens, at the block's input",
}
_TICKS = [scale * digit for scale in (0.001, 0.01, 0.1, 1, 10, 100) for digit in (1, 3)]
_INPUT = "input of the block"
_TWIN = "untrained twin (block)"


def panels(table: pd.DataFrame) -> go.Figure:
    """The panels, one above the other."""
    from plotly.subplots import make_subplots

    shown = [name for name in PANELS if (table["measure"] == name).any()]
    figure = make_subplots(
        rows=len(shown),
        shared_xaxes=True,
        vertical_spacing=0.07,
        subplot_titles=[PANELS[name] for name in shown],
    )
    named: set[str] = set()
    for row, measure in enumerate(shown, 1):
        for trace in _traces(table[table["measure"] == measure], named):
            figure.add_trace(trace, row=row, col=1)
        _axis(figure, measure, row)
    layers = sorted(set(table["layer"]))
    figure.update_xaxes(tickvals=layers[:: -(-len(layers) // 16)])
    figure.update_xaxes(title="block", row=len(shown))
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_layout(height=180 * len(shown) + 120, hovermode="closest", legend={"y": 1.04})
    return themed(mark_layers(figure, layers))


def _axis(figure: go.Figure, measure: str, row: int) -> None:
    if measure == "relative_norm":
        # Block 0 reads bare embeddings and may add many times their norm.
        figure.update_yaxes(type="log", tickvals=_TICKS, row=row)
    elif measure == "cosine":
        figure.add_hline(y=0, line={"color": COLORS["baseline"], "dash": "dot"}, row=row, col=1)
    elif measure == "overlap":
        figure.update_yaxes(range=[0, 1.04], tickformat=".0%", row=row)
    else:
        figure.update_yaxes(rangemode="tozero", row=row)


def _traces(lines: pd.DataFrame, named: set[str]) -> list[Any]:
    import plotly.graph_objects as go

    traces: list[Any] = []
    for part in dict.fromkeys(lines["part"]):
        own = lines[lines["part"] == part].sort_values("layer")
        name = "block" if part == _INPUT else str(part)
        color = COLORS[name]
        traces += interval(own, "ci_low", "ci_high", color)
        drawn = [("value", {"mlp": "MLP"}.get(name, name), color, "solid")]
        if "twin" in own and name == "block":
            drawn.append(("twin", _TWIN, COLORS["twin"], DASHES["twin"]))
        for column, label, hue, dash in drawn:
            new = label not in named
            named.add(label)
            traces.append(go.Scatter(**curve(own, column, label, hue, dash, _hover, named=new)))
    return traces


def _hover(line: pd.Series[Any], column: str, name: str) -> str:
    low, high = ("ci_low", "ci_high") if column == "value" else ("twin_low", "twin_high")
    text = f"<b>block {line['layer']}</b><br>{name}: {line[column]:.3g}"
    if line[low] == line[low]:
        text += f" ({line[low]:.3g} to {line[high]:.3g})"
    if column == "value":
        text += f"<br>with first tokens {line['with_first']:.3g}"
        if line["largest"] == line["largest"]:
            text += f", largest {line['largest']:.3g}"
    return f"{text}<br>n = {line['n']:,} tokens in {line['n_groups']:,} groups"
