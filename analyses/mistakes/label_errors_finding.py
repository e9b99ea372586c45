"""The finding of `label_errors`: suspicious rows, and what a flag is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import known, percent, shortened, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "label",
    "rank",
    "row",
    "word",
    "context",
    "given",
    "suggested",
    "value",
    "ci_low",
    "ci_high",
    "margin",
    "probability",
    "sites",
    "of_sites",
    "count",
    "estimated",
    "precision",
    "recall",
    "precision_top",
    "null_mean",
    "null_sd",
    "accuracy",
    "baseline",
    "temperature",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/label_errors.md says what each one means."""


@dataclass(frozen=True)
class LabelErrorsFinding(Finding):
    """Rows whose given label a probe confidently contradicts."""

    question: ClassVar[str] = "Which labels are likely wrong?"

    def answer(self) -> str:
        """How many rows, how well planted errors are found, and the most suspicious row."""
        line, rows = self.best, self.rows
        flagged = round(line["value"] * line["n"])
        if not flagged:
            return f"No label of {line['label']} looks wrong at {line['site']}; {line['n']:,} rows."
        text = (
            f"{flagged:,} of {line['n']:,} labels of {line['label']} look wrong at {line['site']}: "
            f"{line['value']:.1%}{spoken(line['ci_low'], line['ci_high'], '.1%')}"
        )
        if line.get("recall") is not None and line["recall"] == line["recall"]:
            text += (
                f". Of labels that were changed on purpose {line['recall']:.0%} are found, and "
                f"{line['precision']:.0%} of what is then flagged was changed (by chance "
                f"{line['null_mean']:.0%})"
            )
        first = rows.iloc[0]
        return (
            f"{text}. The most suspicious: {first['context']!r}, given {first['given']}, read as "
            f"{first['suggested']}."
        )

    def gist(self) -> str:
        """In one sentence."""
        line = self.best
        flagged, n = round(line["value"] * line["n"]), f"{line['n']:,}"
        if not flagged:
            return f"None of {n} labels ({shortened(line['label'], 20)}) looks wrong."
        said = f"{flagged:,} of {n} labels ({shortened(line['label'], 20)}) look wrong"
        if not known(line.get("recall")):
            return f"{said}; no test with planted errors was run."
        right, chance = percent(line["precision"]), percent(line["null_mean"])
        return f"{said}; where errors were planted, {right} of such suspicions hit one, by chance {chance}."

    @property
    def best(self) -> dict[str, Any]:
        """The line of the site that reads the label best, at which rows are ranked."""
        sites = self.table[self.table["part"] == "site"]
        line = sites.iloc[int(sites["accuracy"].argmax())]
        return {str(column): value for column, value in line.items()}

    @property
    def rows(self) -> pd.DataFrame:
        """Suspicious rows, the most suspicious first."""
        lines = self.table[self.table["part"] == "row"]
        return lines.dropna(axis=1, how="all").reset_index(drop=True)

    @property
    def pairs(self) -> pd.DataFrame:
        """How many rows given one class are estimated to be of another."""
        lines = self.table[self.table["part"] == "pair"]
        return lines.dropna(axis=1, how="all").reset_index(drop=True)

    def figure(self) -> go.Figure:
        """Share of suspicious rows by layer, above precision and recall for changed labels."""
        from layerscope.analyses.mistakes.label_errors_figure import draw

        return draw(self.table)
