"""The finding of `probe(..., kind="pooling")`: poolings by layer, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.probes.finding import ProbeFinding, weighed

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = (
    "site",
    "layer",
    "pooling",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "baseline",
    "control",
    "control_low",
    "control_high",
    "selectivity",
    "gain",
    "gain_low",
    "gain_high",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "width",
    "lambda",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/layer_mixes.md says what each one means."""


TOKENS = {
    "last": "last token",
    "mean": "mean",
    "max": "maxima",
    "first": "first token",
    "tail": "last tokens",
}
"""Poolings in words."""


@dataclass(frozen=True)
class PoolingFinding(ProbeFinding):
    """A score for each pooling at each site."""

    question: ClassVar[str] = "Which tokens and which layer make the best vector of a text?"

    def answer(self) -> str:
        """The best pooling and site, what the last token gives there, and what chance does."""
        best = self.best
        measure = "accuracy" if best["unit"] == "accuracy" else "R²"
        against = []
        if best["pooling"] != "last" and best.get("gain") is not None:
            against.append(
                f"{best['value'] - best['gain']:.3f} from the last token there (difference "
                f"{best['gain_low']:+.3f} to {best['gain_high']:+.3f})"
            )
        last = self.table[self.table["pooling"] == "last"]
        if len(last) and best["pooling"] != "last":
            line = last.iloc[int(last["value"].argmax())]
            against.append(f"{line['value']:.3f} from the last token at {line['site']}, its best")
        if measure == "accuracy":
            against.append(f"majority {best['baseline']:.3f}")
        if "control" in self.table:
            against.append(f"random labels {best['control']:.3f}")
        if "twin" in self.table:
            against.append(f"untrained twin {best['twin']:.3f}")
        return (
            f"{best['label']} of a text is read best from {best['pooling']} at {best['site']}: "
            f"{measure} {best['value']:.3f} ({best['ci_low']:.3f} to {best['ci_high']:.3f}), against "
            f"{', '.join(against)}; {best['n']:,} texts in {best['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = self.best
        said = weighed(f"{self.subject} of a text", best, places=len(self.table))
        return (
            said.replace(" is read best", f" is read best from the {TOKENS[best['pooling']]}") + "."
        )

    def figure(self) -> go.Figure:
        """A curve over layers for each pooling."""
        from layerscope.probes.mixing.figure import poolings

        return poolings(self.table)
