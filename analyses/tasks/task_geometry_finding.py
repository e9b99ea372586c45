"""The finding of `task_geometry`: alignments and abstraction by layer, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import place, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "site",
    "layer",
    "measure",
    "dichotomy",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "baseline",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "n_conditions",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/task_geometry.md says what each one means."""


@dataclass(frozen=True)
class TaskGeometryFinding(Finding):
    """Alignment with inputs and targets, parallelism, CCGP, shattering and dimension by site."""

    question: ClassVar[str] = "Does the geometry of the layers follow the inputs or the task?"

    def measured(self, name: str) -> pd.DataFrame:
        """The lines of one measure.

        Raises:
            LookupError: it was not measured; the message names those that were.
        """
        lines = self.table[self.table["measure"] == name]
        if not len(lines):
            known = ", ".join(dict.fromkeys(self.table["measure"]))
            raise LookupError(f"{name!r} was not measured; there are: {known}")
        return lines

    def answer(self) -> str:
        """Where the targets shape the layers most, and how abstract the best dichotomy is."""
        reference = self.measured("input_target_alignment").iloc[0]
        target, entering = self.measured("target_alignment"), self.measured("input_alignment")
        best = _largest(target)
        there = entering[entering["site"] == best["site"]].iloc[0]
        text = (
            f"Alignment with the targets ({self.provenance.parameters.get('targets', '')}) is "
            f"highest at {best['site']}: {_told(best)}, against {reference['value']:.2f} of the "
            f"inputs themselves and {best['null_mean']:.2f} of shuffled conditions; alignment with "
            f"the inputs there is {there['value']:.2f}."
        )
        parallel = self.table[self.table["measure"] == "parallelism"]
        if parallel["ci_low"].notna().any():  # without an interval there was hardly a difference
            most = parallel.iloc[int(parallel["ci_low"].argmax())]
            text += (
                f" The most parallel dichotomy is {most['dichotomy']} at {most['site']}: "
                f"{_told(most)}."
            )
        whole = _largest(self.measured("shattering"))
        return (
            f"{text} Up to {whole['value']:.0%} of the balanced dichotomies of {whole['n_conditions']} "
            f"conditions can be decoded ({whole['site']})."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = _largest(self.measured("target_alignment"))
        inputs = self.measured("input_target_alignment").iloc[0]["value"]
        if best["value"] <= max(inputs, best["null_mean"]):
            return (
                f"No layer follows the task more than its inputs do: {best['value']:.2f} at most, the "
                f"inputs {inputs:.2f}."
            )
        return (
            f"The layers follow the task most at {place(best['site'])}: alignment {best['value']:.2f}, the "
            f"inputs alone {inputs:.2f}, shuffled {best['null_mean']:z.2f}."
        )

    def figure(self) -> go.Figure:
        """Alignments, parallelism, CCGP, shattering and dimension by layer, one above the other."""
        from layerscope.analyses.tasks.task_geometry_figure import panels

        return panels(self.table)


def _largest(lines: pd.DataFrame) -> pd.Series[Any]:
    return lines.iloc[int(lines["value"].argmax())]


def _told(line: pd.Series[Any]) -> str:
    return f"{line['value']:.2f}{spoken(line['ci_low'], line['ci_high'], '.2f')}"
