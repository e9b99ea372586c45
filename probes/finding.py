"""The finding of `probe`: a table with one line per site, in words and as a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "site",
    "layer",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "balanced",
    "baseline",
    "control",
    "control_low",
    "control_high",
    "ceiling",
    "selectivity",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "n_classes",
    "width",
    "lambda",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/probes.md says what each one means."""


@dataclass(frozen=True)
class ProbeFinding(Finding):
    """What a linear probe reads off each site, with interval, baseline, control and twin."""

    question: ClassVar[str] = "What can be read off each layer by a linear probe?"

    def answer(self) -> str:
        """The best site with its interval, and what it is to be held against."""
        table, best = self.table, self.best
        classes = best["unit"] == "accuracy"
        measure = "accuracy" if classes else "R²"
        where = "is read best at" if len(table) > 1 else "is read at"
        against = [f"majority {best['baseline']:.3f}"] if classes else ["predicting the mean is 0"]
        if _has(table, "control"):
            against.append(f"control {best['control']:.3f} (selectivity {best['selectivity']:.3f})")
        if _has(table, "twin"):
            against.append(f"untrained twin {best['twin']:.3f}")
        first = table[table["layer"] == -1]
        if len(first) and best["site"] != first["site"].iloc[0]:
            against.append(f"{first['value'].iloc[0]:.3f} at the embeddings")
        return (
            f"{best['label']} {where} {best['site']}: {measure} {best['value']:.3f} "
            f"({best['ci_low']:.3f} to {best['ci_high']:.3f}), against {', '.join(against)}; "
            f"{best['n']:,} rows in {best['n_groups']:,} groups."
        )

    @property
    def best(self) -> dict[str, Any]:
        """The line of the highest value."""
        line = self.table.iloc[int(self.table["value"].argmax())]
        return {str(column): value for column, value in line.items()}

    def figure(self) -> go.Figure:
        """Value by layer with its interval, above control, baseline and twin; bars for one site."""
        from layerscope.probes.figure import bars, curves

        return bars(self.table) if len(self.table) == 1 else curves(self.table)


def kind_of(site: str) -> str:
    """What a site is apart from its block: ``blocks.3.mlp_out`` is a ``mlp_out``.

    >>> kind_of("blocks.3.mlp_out"), kind_of("embed"), kind_of("encoder.conv1")
    ('mlp_out', 'resid_post', 'encoder.conv1')
    """
    if site == "embed":
        return "resid_post"
    return re.sub(r"(^|\.)blocks\.\d+\.", r"\1", site)


def _has(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())
