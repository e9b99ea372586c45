"""The finding of `slices`: where a readout fails more than elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import called, percent, shortened, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "label",
    "column",
    "slice",
    "value",
    "ci_low",
    "ci_high",
    "error",
    "baseline",
    "ratio",
    "found_value",
    "null_mean",
    "null_sd",
    "rows",
    "errors",
    "enriched",
    "examples",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/label_errors.md says what each one means."""


@dataclass(frozen=True)
class SlicesFinding(Finding):
    """Slices of rows with their error rates, on groups that did not choose them."""

    question: ClassVar[str] = "Where does the probe fail?"

    def answer(self) -> str:
        """The slice that fails most, and how many do beyond chance."""
        lines = self.slices
        clear = lines[lines["ci_low"] > 0]
        if not len(clear):
            return (
                f"None of {len(lines)} slices errs more than the rest on groups that did not choose "
                "it."
            )
        worst = clear.iloc[int(clear["ci_low"].argmax())]
        return (
            f"At {worst['site']} the probe of {worst['label']} errs most beyond the rest where "
            f"{worst['slice']}: on {worst['error']:.1%} of {worst['rows']:,} rows against "
            f"{worst['baseline']:.1%} elsewhere"
            f"{spoken(worst['ci_low'], worst['ci_high'], '+.1%', before=', a difference of ')}. "
            f"{len(clear)} of {len(lines)} slices err more than the rest on groups that did not "
            "choose them."
        )

    def gist(self) -> str:
        """In one sentence."""
        lines = self.slices
        clear = lines[lines["ci_low"] > 0]
        if not len(clear):
            return f"On none of {len(lines)} kinds of rows does the probe clearly err more than elsewhere."
        worst = clear.iloc[int(clear["ci_low"].argmax())]
        return (
            f"The probe of {called(worst['label'])} errs most where {shortened(worst['slice'], 40)}: on "
            f"{percent(worst['error'])} of the rows, elsewhere on {percent(worst['baseline'])}."
        )

    @property
    def slices(self) -> pd.DataFrame:
        """Slices by columns and clusters, the worst first."""
        lines = self.table[self.table["part"] != "direction"]
        return lines.sort_values("value", ascending=False).reset_index(drop=True)

    @property
    def directions(self) -> pd.DataFrame:
        """For each class, how well the direction from errors to hits tells them apart (AUC)."""
        lines = self.table[self.table["part"] == "direction"]
        return lines.sort_values("value", ascending=False).reset_index(drop=True)

    def figure(self) -> go.Figure:
        """Error rate beyond the rest, slice by slice, with its interval."""
        from layerscope.analyses.mistakes.slices_figure import draw

        return draw(self.table)
