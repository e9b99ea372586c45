"""The finding of `probe(..., kind="scalar_mix")`: weights of layers, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import capital, percent, place

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "label",
    "weight",
    "weight_low",
    "weight_high",
    "weight_sd",
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
    "centre",
    "centre_low",
    "centre_high",
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


@dataclass(frozen=True)
class LayerMixFinding(ProbeFinding):
    """Which layers a probe of their weighted mean reads; ``part`` says what a line is about."""

    question: ClassVar[str] = "Which layers does a probe choose to read a label from?"

    def answer(self) -> str:
        """The heaviest layer, the centre of gravity, and what the mix is worth."""
        layers = self.table[self.table["part"] == "layer"]
        top = layers.iloc[int(layers["weight"].argmax())]
        mix, best = self.part("mix"), self.part("best")
        measure = "Accuracy" if mix["unit"] == "accuracy" else "R²"
        centre = ""
        if mix.get("centre") is not None and mix["centre"] == mix["centre"]:
            centre = f", centre of gravity {mix['centre']:.2f}"
        against = [f"the best single layer {best['value']:.3f}"]
        if (self.table["part"] == "concat").any():
            against.append(f"all layers side by side {self.part('concat')['value']:.3f}")
        if mix["unit"] == "accuracy":
            against.append(f"majority {mix['baseline']:.3f}")
        if "control" in self.table:
            against.append(f"control {mix['control']:.3f}")
        if "twin" in self.table:
            against.append(f"untrained twin {mix['twin']:.3f}")
        return (
            f"{mix['label']} is read mostly from {top['site']} (weight {top['weight']:.2f}, "
            f"{top['weight_low']:.2f} to {top['weight_high']:.2f} over folds; equal would be "
            f"{1 / len(layers):.2f}{centre}). {measure} of the mix {mix['value']:.3f} "
            f"({mix['ci_low']:.3f} to {mix['ci_high']:.3f}), against {', '.join(against)}; "
            f"{mix['n']:,} rows in {mix['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        layers = self.table[self.table["part"] == "layer"]
        top, mix, best = (
            layers.iloc[int(layers["weight"].argmax())],
            self.part("mix"),
            self.part("best"),
        )
        unit = "right" if mix["unit"] == "accuracy" else "of its variance"
        value = f"{percent(mix['value'])} {unit}"
        guess = mix["baseline"] if mix["unit"] == "accuracy" else 0.0
        if not mix["ci_low"] > guess:
            return f"{capital(self.subject)} is not seen in a mix of the layers: {value}, guessing {percent(guess)}."
        return (
            f"{capital(self.subject)} is read mostly from {place(top['site'])} (weight {top['weight']:.2f}): "
            f"the mix {value}, one layer {percent(best['value'])}."
        )

    def part(self, name: str) -> dict[str, Any]:
        """The line of the ``"mix"``, ``"best"`` layer, plain ``"mean"`` or ``"concat"``."""
        line = self.table[self.table["part"] == name].iloc[0]
        return {str(column): value for column, value in line.items()}

    @property
    def best(self) -> dict[str, Any]:
        """The line of the mix."""
        return self.part("mix")

    def figure(self) -> go.Figure:
        """Weights by layer, and below each layer's own score beside that of the mix."""
        from layerscope.probes.mixing.figure import weights_and_scores

        return weights_and_scores(self.table)
