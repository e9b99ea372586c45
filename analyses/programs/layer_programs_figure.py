"""How `layer_programs` is drawn: what more tries find, and which blocks short programs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.programs.layer_programs_finding import each
from layerscope.theme import COLORS, DASHES, mark_layers, themed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def curves_and_blocks(table: pd.DataFrame) -> go.Figure:
    """Share of prompts solved within so many tries; mean visits of each block."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=["wrong answers mended", "blocks of the shortest right program"],
        horizontal_spacing=0.12,
    )
    own = each(table, "answer")
    wrong = own[~own["baseline"]]
    shown = wrong if len(wrong) else own
    figure.add_scatter(**_curve(shown, "value", "right answer"), row=1, col=1)
    control = each(table, "control")
    if len(control):
        control = control[control["prompt"].isin(shown["prompt"]) & ~control["baseline"]]
    if len(control):
        figure.add_scatter(**_curve(control, "control", "control: another answer"), row=1, col=1)
    if "guessing" in shown and shown["guessing"].notna().any():
        figure.add_scatter(**_guessing(shown), row=1, col=1)
    if not len(wrong):
        figure.layout.annotations[0].text = "answers found"
    _blocks(figure, table, own)
    figure.update_xaxes(title="programs tried", type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(title="share of prompts", range=[0, 1.02], tickformat=".0%", row=1, col=1)
    figure.update_xaxes(
        title="block", dtick=max(1, -(-int(own["blocks"].max()) // 16)), row=1, col=2
    )
    figure.update_yaxes(title="mean runs", rangemode="tozero", row=1, col=2)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(
        legend={"y": -0.22, "yanchor": "top"}, margin={"b": 96}, barmode="group", bargap=0.25
    )
    mark_layers(figure, range(int(own["blocks"].max())), "x2")
    return themed(figure)


def _curve(searches: pd.DataFrame, role: str, name: str) -> dict[str, Any]:
    """Tries count from 1: the untouched model."""
    most = int(searches["tries"].max())
    tries = np.unique(np.geomspace(1, most, 60).astype(int))
    first = searches["first"].astype(float).to_numpy() + 1
    share = [float(np.mean(first <= n)) for n in tries]  # NaN: never found
    n = len(searches)
    return {
        "x": tries,
        "y": share,
        "name": name,
        "mode": "lines",
        "line": {"color": COLORS[role], "dash": DASHES[role], "shape": "hv"},
        "hovertemplate": f"{name}<br>%{{y:.1%}} of {n} within %{{x}} tries<extra></extra>",
    }


def _guessing(searches: pd.DataFrame) -> dict[str, Any]:
    """A level: one guess for every different answer that all the tries gave."""
    level, name = float(searches["guessing"].mean()), "as many guesses"
    return {
        "x": [1, int(searches["tries"].max())],
        "y": [level, level],
        "name": name,
        "mode": "lines",
        "line": {"color": COLORS["baseline"], "dash": DASHES["baseline"]},
        "hovertemplate": f"{name} as the tries gave different answers: %{{y:.1%}}<extra></extra>",
    }


def _blocks(figure: go.Figure, table: pd.DataFrame, own: pd.DataFrame) -> None:
    """Bars: how often each block runs, where the model was right and where it was mended."""
    right = table[(table["search"] == "answer") & table["correct"].fillna(False).astype(bool)]
    shortest = right.sort_values(["length", "logprob"], ascending=[True, False], kind="stable")
    shortest = shortest.drop_duplicates("prompt")
    blocks = int(own["blocks"].max())
    groups = {True: ("right before", "value"), False: ("wrong before", "good")}
    for before, (name, color) in groups.items():
        part = shortest[shortest["baseline"].astype(bool) == before]
        if not len(part):
            continue
        runs = np.zeros(blocks)
        for program in part["program"]:
            np.add.at(runs, [int(block) for block in program.split()], 1)
        figure.add_bar(
            x=list(range(blocks)),
            y=runs / len(part),
            name=f"{name} ({len(part)})",
            marker={"color": COLORS[color]},
            hovertemplate=f"block %{{x}}, {name}: %{{y:.2f}} runs<extra></extra>",
            row=1,
            col=2,
        )
    figure.add_hline(
        y=1, line={"width": 1, "dash": "dot", "color": COLORS["baseline"]}, row=1, col=2
    )
