"""The finding of `learning_regime`: how far the run has moved, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.regimes.regime_compare import WHOLE
from layerscope.finding import Finding
from layerscope.wording import percent, place, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

TABLE_COLUMNS = (
    "step",
    "measure",
    "site",
    "layer",
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
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/learning_regime.md says what each one means."""
KERNEL = "centred_tangent_kernel_alignment"


@dataclass(frozen=True)
class LearningRegimeFinding(Finding):
    """Change of weights, representations and tangent kernel since the first checkpoint."""

    question: ClassVar[str] = "How far has training moved the network: rich or lazy?"

    def measured(self, name: str, site: str | None = None) -> pd.DataFrame:
        """The lines of one measure, over all steps; of one site or part where it is named.

        Raises:
            LookupError: nothing of that name; the message says what there is.
        """
        lines = self.table[self.table["measure"] == name]
        if not len(lines):
            raise LookupError(
                f"{name!r} was not measured; there are: {_names(self.table['measure'])}"
            )
        if site is None:
            return lines
        here = lines[lines["site"] == site]
        if not len(here):
            raise LookupError(
                f"{name} was not measured at {site!r}, but at {_names(lines['site'])}"
            )
        return here

    def answer(self) -> str:
        """What the last checkpoint keeps of the first; the centred tangent kernel leads."""
        steps = self.table["step"]
        change = self._last("relative_weight_change", WHOLE)
        text = f"From step {steps.min():g} to {steps.max():g} "
        if (self.table["measure"] == KERNEL).any():
            text += f"{_kept(self._last(KERNEL, WHOLE))}; "
        text += f"the weights moved by {change['value']:.2f} of their initial norm"
        last = list(dict.fromkeys(self.measured("representation_alignment")["site"]))[-1]
        states = self._last("centred_representation_alignment", last)
        raw = self._last("representation_alignment", last)
        signs = self._last("sign_similarity", last)
        text += (
            f"; the representation at {last} one of {_told(states)}, uncentred {raw['value']:.2f} "
            f"(rows in random order {raw['null_mean']:.2f}); {signs['value']:.0%} of the signs are "
            "the same."
        )
        if (self.table["measure"] == "loss").any():
            losses = self.measured("loss").sort_values("step")["value"]
            text += f" The loss went from {losses.iloc[0]:.2f} to {losses.iloc[-1]:.2f}."
        return text

    def gist(self) -> str:
        """In one sentence."""
        moved = self._last("relative_weight_change", WHOLE)["value"]
        last = list(dict.fromkeys(self.measured("representation_alignment")["site"]))[-1]
        line = self._last("centred_representation_alignment", last)
        said = f"Training moved the weights by {rounded(moved)} times their size at first"
        null = line["null_mean"]
        spread = 0.0 if line["null_sd"] != line["null_sd"] else 2 * line["null_sd"]
        if not line["value"] > null + spread:
            return f"{said}; at {place(last)} nothing kept of the first arrangement can be seen."
        return (
            f"{said}; {place(last)} keeps {percent(line['value'])} of its first arrangement, shuffled rows "
            f"{percent(null)}."
        )

    def figure(self) -> go.Figure:
        """Curves over steps for the whole network, and maps of layers over steps."""
        from layerscope.analyses.regimes.learning_regime_figure import panels

        return panels(self.table)

    def _last(self, name: str, site: str) -> pd.Series[Any]:
        lines = self.measured(name, site)
        return lines.iloc[int(lines["step"].argmax())]


def _names(column: pd.Series[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(column)))


def _kept(line: pd.Series[Any]) -> str:
    """The alignment of the kernel beside that of rows in random order, never "lazy" at chance."""
    null = line["null_mean"]
    told = f"the centred tangent kernel keeps an alignment of {_told(line)} with the first"
    spread = 0.0 if line["null_sd"] != line["null_sd"] else 2 * line["null_sd"]
    if not line["value"] > null + spread:
        return f"{told}, no higher than rows in random order ({null:.2f}): nothing kept can be seen"
    return f"{told} (1: lazy), rows in random order {null:.2f}"


def _told(line: pd.Series[Any]) -> str:
    return f"{line['value']:.2f}{spoken(line['ci_low'], line['ci_high'], '.2f')}"
