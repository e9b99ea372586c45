"""The finding of `probe(..., kind="clue")`: which traces are correct, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "k",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "balanced",
    "null_mean",
    "null_sd",
    "baseline",
    "length",
    "length_auc",
    "auc",
    "auc_problem",
    "auc_length",
    "single",
    "oracle",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "width",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/contrast_probes.md says what each one means."""


@dataclass(frozen=True)
class ClueFinding(ProbeFinding):
    """Accuracy per layer (``part`` ``"layer"``), of all (``"all"``), and reranking (``"rerank"``)."""

    question: ClassVar[str] = "Does the change of the hidden states tell correct traces from wrong?"

    def answer(self) -> str:
        """All layers together, what they are to be held against, and what reranking gains."""
        line = self.whole
        against = [
            f"permuted labels {line['null_mean']:.3f}",
            f"the commonest label {line['baseline']:.3f}",
        ]
        if line["length"] == line["length"]:
            against.append(f"length alone {line['length']:.3f}")
        if "twin" in self.table:
            against.append(f"untrained twin {line['twin']:.3f}")
        best = self.best
        return (
            f"{line['label']} by nearest centroid over {line['site']}: accuracy {line['value']:.3f} "
            f"({line['ci_low']:.3f} to {line['ci_high']:.3f}), best single layer {best['site']} "
            f"{best['value']:.3f}, against {', '.join(against)}; {line['n']:,} traces of "
            f"{line['n_groups']:,} problems.{self._votes()}"
        )

    def gist(self) -> str:
        """In one sentence."""
        line = self.whole
        said = f"The change over all layers tells {self.subject} in {percent(line['value'])} of the traces"
        shuffled, common = percent(line["null_mean"]), percent(line["baseline"])
        if not line["ci_low"] > line["null_mean"]:
            return f"{said}, no better than shuffled labels: {shuffled}."
        only = "but " if line["value"] <= line["baseline"] else ""
        return f"{said}, {only}always the commonest in {common}, shuffled labels in {shuffled}."

    def _votes(self) -> str:
        votes = self.table[self.table["part"] == "rerank"]
        if not len(votes):
            return ""
        best = votes.iloc[int(votes["value"].argmax())]
        return (
            f" Voting among the {best['k']} best traces of each problem solves {best['value']:.3f} "
            f"of them ({best['ci_low']:.3f} to {best['ci_high']:.3f}), voting among all "
            f"{best['baseline']:.3f}."
        )

    @property
    def whole(self) -> dict[str, Any]:
        """The line of all layers together."""
        line = self.table[self.table["part"] == "all"].iloc[0]
        return {str(column): value for column, value in line.items()}

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best single layer; it was chosen for being the best."""
        layers = self.table[self.table["part"] == "layer"]
        line = layers.iloc[int(layers["value"].argmax())]
        return {str(column): value for column, value in line.items()}

    def figure(self) -> go.Figure:
        """Accuracy by layer and of all of them, above permuted labels and length alone."""
        from layerscope.probes.contrast.figure import curves, layer_ticks

        shown = self.table[self.table["part"].isin(["layer", "all"])].reset_index(drop=True)
        ticks = [*layer_ticks(shown[shown["part"] == "layer"]), "all"]
        return curves(
            shown,
            title="Correct or wrong, by centroids",
            names={
                "value": "nearest centroid",
                "length": "length of the trace alone",
                "twin": "untrained twin",
                "null_mean": "permuted labels",
            },
            ticks=ticks,
        )
