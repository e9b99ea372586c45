"""The finding of `similarity`: which layers are alike, in words and as a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.resemblance.cells import MEASURES
from layerscope.finding import Finding
from layerscope.wording import place, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "measure",
    "a",
    "site",
    "layer",
    "b",
    "other_site",
    "other_layer",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "width",
    "other_width",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/similarity.md says what each one means."""


@dataclass(frozen=True)
class SimilarityMapFinding(Finding):
    """Similarity of every pair of layers, beside what rows in random order give."""

    question: ClassVar[str] = "Which layers hold the same rows in the same arrangement?"

    def answer(self) -> str:
        """By the first measure: neighbours and ends, best matches, or the way to the last step."""
        first = str(self.table["measure"].iloc[0])
        lines = self.measure(first)
        kind = {"within": _within, "between": _between, "steps": _steps}[lines["part"].iloc[0]]
        one = lines.iloc[0]
        return f"{MEASURES[first].title}: {kind(lines)}; {one['n']:,} rows in {one['n_groups']:,} groups."

    def gist(self) -> str:
        """In one sentence."""
        lines = self.measure(str(self.table["measure"].iloc[0]))
        title = MEASURES[str(lines["measure"].iloc[0])].title
        one = {"within": _ends, "between": _nearest, "steps": _start}[lines["part"].iloc[0]]
        return f"{one(lines)} ({title})."

    def measure(self, name: str) -> pd.DataFrame:
        """Lines of one measure.

        Raises:
            LookupError: it was not measured; the message names those that were.
        """
        lines = self.table[self.table["measure"] == name]
        if not len(lines):
            known = ", ".join(self.table["measure"].unique())
            raise LookupError(f"measure {name!r} is not in this finding; it has {known}")
        return lines

    def map(self, measure: str, column: str = "value") -> pd.DataFrame:
        """One measure as a matrix: sites of `a` (checkpoints: steps) by sites of `b`."""
        lines = self.measure(measure)
        rows = "a" if lines["part"].iloc[0] == "steps" else "site"
        order = [list(dict.fromkeys(lines[name])) for name in (rows, "other_site")]
        matrix = lines.pivot(index=rows, columns="other_site", values=column)
        return matrix.loc[order[0], order[1]]

    def figure(self) -> go.Figure:
        """A heat map for each measure; with a twin, its map beside."""
        from layerscope.analyses.resemblance.similarity_figure import maps

        return maps(self.table)


def _within(lines: pd.DataFrame) -> str:
    sites = list(dict.fromkeys(lines["site"]))
    if len(sites) == 1:
        return "a single layer, which is like itself"
    steps, ends = _steps_and_ends(lines, sites)
    weakest = (max if MEASURES[lines["measure"].iloc[0]].distance else min)(steps)
    where = steps.index(weakest)
    told = (
        f"neighbouring layers {sum(steps) / len(steps):.2f} on average, least alike "
        f"{sites[where]} and {sites[where + 1]} ({weakest:.2f}); first and last {_told(ends)}"
    )
    if "twin" in lines and lines["twin"].notna().any():
        told += f", in the untrained twin {ends['twin']:.2f}"
    return told


def _between(lines: pd.DataFrame) -> str:
    distance = MEASURES[lines["measure"].iloc[0]].distance
    best = lines.loc[lines["value"].agg("idxmin" if distance else "idxmax")]
    a, b = best["a"], best["b"]
    same = lines[lines["site"] == lines["other_site"]]
    told = f"most alike are {best['site']} of {a} and {best['other_site']} of {b}, {_told(best)}"
    if len(same) > 1:
        told += f"; layers of the same number {same['value'].mean():.2f} on average"
    return told


def _steps(lines: pd.DataFrame) -> str:
    last = lines["b"].iloc[0]
    told = []
    for step in list(dict.fromkeys(lines["a"])):
        values = lines.loc[lines["a"] == step, "value"]
        told.append(f"{step} {values.min():.2f} to {values.max():.2f}")
    shown = told if len(told) < 5 else [told[0], told[len(told) // 2], told[-1]]
    null = lines["null_mean"].abs().max()
    return f"layers against themselves in {last}, over layers: {', '.join(shown)} (random order at most {null:.2f})"


def _told(line: pd.Series[Any]) -> str:
    interval = spoken(line["ci_low"], line["ci_high"], ".2f")
    return f"{line['value']:.2f}{interval}, rows in random order {line['null_mean']:.2f}"


def _steps_and_ends(
    lines: pd.DataFrame, sites: Sequence[str]
) -> tuple[list[float], pd.Series[Any]]:
    """The likeness of each layer and the next, and the line of the first and the last."""
    keyed = lines.set_index(["site", "other_site"])
    steps: list[float] = keyed["value"].loc[list(pairwise(sites))].tolist()
    return steps, keyed.loc[[(sites[0], sites[-1])]].iloc[0]


def _ends(lines: pd.DataFrame) -> str:
    sites = list(dict.fromkeys(lines["site"]))
    if len(sites) == 1:
        return "A single layer is like itself, so there is nothing to compare"
    near, ends = _steps_and_ends(lines, sites)
    return (
        f"{_word(lines)} of neighbouring layers is {sum(near) / len(near):.2f}, of the first and the "
        f"last {ends['value']:.2f}, of shuffled rows {ends['null_mean']:z.2f}"
    )


def _nearest(lines: pd.DataFrame) -> str:
    far = MEASURES[lines["measure"].iloc[0]].distance
    best = lines.loc[lines["value"].agg("idxmin" if far else "idxmax")]
    return (
        f"Most alike are {place(best['site'])} of one and {place(best['other_site'])} of the other: "
        f"{best['value']:.2f}, shuffled rows {best['null_mean']:z.2f}"
    )


def _start(lines: pd.DataFrame) -> str:
    first = lines[lines["a"] == lines["a"].iloc[0]]
    low, high = (first.loc[first["value"].agg(end)] for end in ("idxmin", "idxmax"))
    return (
        f"{_word(lines)} of a layer at {first['a'].iloc[0]} to itself at the end is {low['value']:.2f} to "
        f"{high['value']:.2f}, of shuffled rows {lines['null_mean'].abs().max():.2f}"
    )


def _word(lines: pd.DataFrame) -> str:
    return "The distance" if MEASURES[lines["measure"].iloc[0]].distance else "The likeness"
