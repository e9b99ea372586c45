"""The finding of `probe`: a table with one line per site, in words and as a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import called, capital, known, percent, place

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

DEFAULTS = ("multinomial logistic, L2", "ridge")
"""Estimators of the default kind, which an answer need not name."""


@dataclass(frozen=True)
class ProbeFinding(Finding):
    """What a probe reads off each site, with interval, baseline, control and twin."""

    question: ClassVar[str] = "What can a probe read off each layer?"

    def answer(self) -> str:
        """For each label the best site with its interval, and what it is to be held against."""
        return " ".join(_answer(part) for part in self.by_label.values())

    def gist(self) -> str:
        """The first label's best place, with what it is to be compared with, in one sentence."""
        first, *others = self.by_label.values()
        more = f" (first of {1 + len(others)} labels)" if others else ""
        return f"{weighed(self.subject, best_line(first), places=len(first))}{more}."

    @property
    def subject(self) -> str:
        """What is read, in words; of several labels the first."""
        return called(self.table["label"].iloc[0])

    @property
    def best(self) -> dict[str, Any]:
        """The line of the highest value; of several labels, of the first one."""
        return best_line(next(iter(self.by_label.values())))

    @property
    def by_label(self) -> dict[str, pd.DataFrame]:
        """The lines of each label, in the order asked."""
        labels = self.table["label"]
        return {str(label): self.table[labels == label] for label in labels.unique()}

    def figure(self) -> go.Figure:
        """Value by layer with its interval, above control, baseline and twin; bars for one site.

        Several labels get a panel each, or, for one site, a line each.
        """
        from layerscope.probes.figure import bars, curves
        from layerscope.probes.panels import label_dots, label_panels

        several, single = len(self.by_label) > 1, self.table["site"].nunique() == 1
        if several:
            return label_dots(self.table) if single else label_panels(self.by_label)
        return bars(self.table) if single else curves(self.table)


def best_line(table: pd.DataFrame) -> dict[str, Any]:
    """The line of the highest value."""
    line = table.iloc[int(table["value"].argmax())]
    return {str(column): value for column, value in line.items()}


def _answer(table: pd.DataFrame) -> str:
    """One sentence on one label."""
    best = best_line(table)
    classes = best["unit"] == "accuracy"
    measure = "accuracy" if classes else "R²"
    by = "" if best["estimator"] in DEFAULTS else f" by {best['estimator']}"
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
        f"{best['label']} {where} {best['site']}{by}: {measure} {best['value']:.3f} "
        f"({best['ci_low']:.3f} to {best['ci_high']:.3f}), against {', '.join(against)}; "
        f"{best['n']:,} rows in {best['n_groups']:,} groups."
    )


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


def weighed(what: str, line: dict[str, Any], *, places: int) -> str:
    """How well something is read, with what does as well or what it is to be compared with."""
    classes = line["unit"] == "accuracy"
    value, guess = percent(line["value"]), line["baseline"] if classes else 0.0
    unit = " right" if classes else " of its variance explained"
    if not line["ci_low"] > guess:
        guessing = f"; guessing the commonest gives {percent(guess)}" if classes else ""
        return f"{capital(what)} is not seen to be readable: {value}{unit} at best{guessing}"
    best = " best" if places > 1 else ""
    said = f"{capital(what)} is read{best} at {place(line['site'])}: {value}{unit}"
    twin: Any = line.get("twin")
    control: Any = line.get("control")
    if known(twin) and line["ci_low"] <= twin:
        return f"{said}, but an untrained model does as well: {percent(twin)}"
    if known(control) and line["ci_low"] <= control:
        return f"{said}, but random labels are read as well: {percent(control)}"
    against = [f"guessing the commonest gives {percent(guess)}"] if classes else []
    if known(twin):
        against.append(f"an untrained model {'' if classes else 'gives '}{percent(twin)}")
    elif known(control):
        against.append(f"random labels {'' if classes else 'give '}{percent(control)}")
    return f"{said}; {', '.join(against or ['the mean explains none'])}"
