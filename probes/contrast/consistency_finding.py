"""The finding of `probe(..., kind="ccs")`: truth without labels, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import percent, place

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = (
    "site",
    "layer",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "baseline",
    "supervised",
    "supervised_low",
    "supervised_high",
    "random",
    "random_high",
    "uncentred",
    "twin",
    "twin_low",
    "twin_high",
    "top_share",
    "loss",
    "stability",
    "n",
    "n_groups",
    "width",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/contrast_probes.md says what each one means."""


@dataclass(frozen=True)
class ConsistencyFinding(ProbeFinding):
    """How well the most salient contrast between the sides of pairs agrees with a label."""

    question: ClassVar[str] = "Does the most salient contrast between two sides agree with a label?"

    def answer(self) -> str:
        """The best site, and what labels, chance and no centring give there."""
        best = self.best
        where = "best at" if len(self.table) > 1 else "at"
        against = [
            f"permuted labels {best['null_mean']:.3f}",
            f"a random direction {best['random']:.3f}",
            f"without centring {best['uncentred']:.3f}",
            f"a probe trained on the labels {best['supervised']:.3f}",
        ]
        if "twin" in self.table:
            against.append(f"untrained twin {best['twin']:.3f}")
        return (
            f"Found without labels, {best['label']} is told {where} {best['site']}: accuracy "
            f"{best['value']:.3f} ({best['ci_low']:.3f} to {best['ci_high']:.3f}), against "
            f"{', '.join(against)}; {best['n']:,} pairs in {best['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = self.best
        value, random = percent(best["value"]), max(best["null_mean"], best["random"])
        if not best["ci_low"] > random:
            return (
                f"Without labels, {self.subject} is not seen at any layer: {value} right, chance directions "
                f"{percent(random)}."
            )
        return (
            f"Without labels, {self.subject} is told best at {place(best['site'])}: {value} right; chance "
            f"directions {percent(random)}, a trained probe {percent(best['supervised'])}."
        )

    def figure(self) -> go.Figure:
        """Accuracy by layer, between what chance and what a supervised probe reach."""
        from layerscope.probes.contrast.figure import curves

        return curves(
            self.table,
            title="A contrast found without labels",
            names={
                "value": "found without labels",
                "supervised": "probe trained on the labels",
                "twin": "found in the untrained twin",
                "null_mean": "permuted labels",
            },
        )
