"""How an information plane is drawn: the plane with a slider of steps, above curves over resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.analyses.planes.asked import thinned
from layerscope.analyses.planes.compression import means
from layerscope.analyses.planes.plane_paths import add_plane, colors, ordered
from layerscope.analyses.planes.resolution_curves import add_curves
from layerscope.theme import COLORS, plain, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CURVES = (0.0, 0.235)
PLANE = (0.43, 1.0)
"""Heights of the two panels, as shares of the figure; the slider lies between them."""
FRAMES = 60
"""Steps of the slider, at most: every one adds to the page."""


def panels(table: pd.DataFrame, setting: str, clock: str, accuracy: dict[str, float]) -> go.Figure:
    """The plane at one setting; below, x over widths of bins and over noise at the slider's step."""
    import plotly.graph_objects as go

    figure = go.Figure()
    averaged = means(table)
    chosen = table[table["setting"] == setting]
    steps = thinned(sorted(chosen["step"].unique()), FRAMES)
    curved = averaged.groupby("estimator")["setting"].nunique().reindex(["binned", "kde"])
    below = [str(name) for name in curved.index[curved > 1]]
    shades = colors(ordered(averaged))  # of all panels: an estimator may leave sites out
    drawn = averaged[averaged["setting"] == setting]
    moving = add_plane(figure, chosen, drawn, shades, steps, clock)
    moving += add_curves(figure, averaged, below, shades, steps, CURVES)
    _name_the_rest(figure, averaged, shades, set(drawn["site"]), below)
    _animate(figure, moving, steps)
    figure.update_layout(
        xaxis={"anchor": "y", "domain": [0, 1]},
        yaxis={"anchor": "x", "domain": list(PLANE) if below else [0.16, 1.0]},
        title={
            "text": _title(clock, str(chosen["estimator"].iloc[0])),
            "automargin": False,
            "y": 0.985,
            "pad": {"t": 14},
            "yanchor": "top",
        },
        height=1080 if below else 680,
        hovermode="closest",
        margin={"t": 168, "b": 60, "l": 62, "r": 24},
        legend={"y": 1.01, "font": {"size": 12}, "tracegroupgap": 0},
        sliders=[_slider(steps, clock, accuracy, PLANE[0] if below else 0.16)],
    )
    return themed(figure)


def _name_the_rest(
    figure: go.Figure,
    averaged: pd.DataFrame,
    shades: dict[str, str],
    drawn: set[str],
    below: list[str],
) -> None:
    """Entries of the legend for sites that have curves, but no path."""
    curved = averaged[averaged["estimator"].isin(below)]
    for site in ordered(curved):
        if site not in drawn:
            width = int(curved.loc[curved["site"] == site, "width"].iloc[0])
            line = {"color": shades[site], "width": 2.25}
            name = f"{plain(site)} ({width})"
            figure.add_scatter(
                x=[None], y=[None], mode="lines", line=line, name=name, legendgroup=site
            )


def _title(clock: str, estimator: str) -> str:
    bar = {"noisy": ", bar: its bounds", "lossy": ", bar: the two estimates"}.get(estimator, "")
    return (
        f"Information plane, {clock} by {clock}<br><span style='font-size:13px'>"
        f"large mark: slider's {clock}{bar}<br>"
        "thick: mean, thin: single seeds; in brackets: units<br>"
        "open mark: shuffled labels give as much</span>"
    )


def _animate(
    figure: go.Figure, moving: list[tuple[int, list[dict[str, Any]]]], steps: list[int]
) -> None:
    """Frames name every trace: plotly wipes those it is not told of while it moves the others."""
    by_trace = dict(moving)
    every = list(range(len(figure.data)))
    figure.frames = [
        {
            "name": str(step),
            "traces": every,
            "data": [by_trace[trace][at] if trace in by_trace else {} for trace in every],
        }
        for at, step in enumerate(steps)
    ]


def _slider(
    steps: list[int], clock: str, accuracy: dict[str, float], bottom: float
) -> dict[str, Any]:
    move = {
        "mode": "immediate",
        "frame": {"duration": 250, "redraw": False},
        "transition": {"duration": 200, "easing": "linear"},
    }
    return {
        "steps": [
            {
                "label": f"{step:,}" + _scored(accuracy.get(str(step))),
                "method": "animate",
                "args": [[str(step)], move],
            }
            for step in steps
        ],
        "active": len(steps) - 1,
        "currentvalue": {"prefix": f"{clock} ", "font": {"size": 13, "color": COLORS["baseline"]}},
        "ticklen": 0,
        "minorticklen": 0,
        "font": {
            "size": 1,
            "color": "rgba(0,0,0,0)",
        },  # the current value says it; 60 labels overlap
        "y": bottom - 0.075,
        "yanchor": "top",
        "x": 0,
        "len": 1.0,
        "pad": {"t": 0, "b": 0},
        "bgcolor": "#9aa1a9",
        "bordercolor": "#7d7d7d",
    }


def _scored(accuracy: float | None) -> str:
    return "" if accuracy is None else f" (test accuracy {accuracy:.2f})"
