"""The finding of `attribution_patching`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.patches.patching_words import named, strongest
from layerscope.finding import Finding
from layerscope.wording import percent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class AttributionPatchingFinding(Finding):
    """The patching map as a gradient estimates it, and how far that can be trusted.

    Columns: those of `patching`, with ``value`` estimated, and ``exact`` (the same by a true patch,
    for the cells that were checked).
    """

    question: ClassVar[str] = "Which activations carry the answer, as a gradient sees it?"

    def answer(self) -> str:
        """The strongest estimates, and their agreement with true patches."""
        table = self.table
        known = table.dropna(subset=["value"])
        if not len(known):
            return "The two runs do not differ in the metric, so there is nothing to restore."
        named = ", ".join(strongest(part) for _, part in known.groupby("kind", sort=False))
        checked = table.dropna(subset=["exact"])
        if len(checked) < 3:
            return (
                f"Estimated: {'; '.join(named)}. Too few cells were patched for real to check it."
            )
        pearson, spearman = agreement(table)
        return (
            f"Estimated: {named}. Against {len(checked)} true patches: Pearson "
            f"{pearson:.2f}, Spearman {spearman:.2f}, largest error "
            f"{(checked['value'] - checked['exact']).abs().max():.0%}."
        )

    def gist(self) -> str:
        """In one sentence."""
        known = self.table.dropna(subset=["value"])
        if not len(known):
            return "The two runs do not differ in the answer, so there is nothing to restore."
        best = known.iloc[int(known["value"].argmax())]
        said = f"By gradients, {named(best)} carries most: {percent(best['value'])} of the answer"
        checked = self.table.dropna(subset=["exact"])
        if len(checked) < 3:
            return f"{said}; too few real patches to check it."
        off = percent((checked["value"] - checked["exact"]).abs().max())
        return f"{said}; against {len(checked)} real patches this is off by up to {off}."

    def figure(self) -> go.Figure:
        """The estimated maps, and estimates against true patches."""
        from layerscope.analyses.patches.attribution_patching_figure import maps_and_checks

        return maps_and_checks(self.table)


def agreement(table: pd.DataFrame) -> tuple[float, float]:
    """Pearson and Spearman correlation of estimates with true patches; NaN where either is flat."""
    checked = table.dropna(subset=["exact"])
    ranks = checked[["value", "exact"]].rank()
    pearson = checked["value"].corr(checked["exact"])
    return float(pearson), float(ranks["value"].corr(ranks["exact"]))
