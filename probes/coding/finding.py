"""The finding of `probe(..., kind="mdl")`: codelengths by layer, and as they fall with the rows seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import capital, known, place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "label",
    "value",
    "ci_low",
    "ci_high",
    "order_sd",
    "bits",
    "bits_per_label",
    "accuracy",
    "baseline",
    "baseline_bits_per_label",
    "control",
    "control_low",
    "control_high",
    "control_bits_per_label",
    "selectivity",
    "twin",
    "twin_low",
    "twin_high",
    "block",
    "rows_seen",
    "n",
    "n_groups",
    "n_classes",
    "width",
    "lambda",
    "orders",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/mdl.md says what each one means."""


def last_block(table: pd.DataFrame) -> str:
    """How much of the rows the last block is, in words."""
    blocks = table[table["part"] == "block"]
    share = 1 - blocks["rows_seen"].max() / blocks["n"].iloc[0]
    return "last half" if 0.49 < share < 0.51 else f"last {share:.0%} of the rows"


@dataclass(frozen=True)
class CodeFinding(ProbeFinding):
    """What the labels cost at each site: ``part`` is ``"code"``, or ``"block"`` for the curve."""

    question: ClassVar[str] = "How easily can a label be read off each layer?"

    def answer(self) -> str:
        """The site of the shortest code, and what it is to be held against."""
        sites, best = self.sites, self.best
        where = "takes the fewest bits at" if len(sites) > 1 else "at"
        against = [f"class frequencies alone {best['baseline_bits_per_label']:.2f} bits"]
        if "control" in sites:
            against.append(
                f"random labels per word {best['control_bits_per_label']:.2f} bits "
                f"(compression {best['control']:.2f})"
            )
        if "twin" in sites:
            against.append(f"the untrained twin's compression {best['twin']:.2f}")
        first = sites[sites["layer"] == -1]
        if len(first) and best["site"] != first["site"].iloc[0]:
            against.append(f"{first['bits_per_label'].iloc[0]:.2f} bits at the embeddings")
        return (
            f"{best['label']} {where} {best['site']}: {best['bits_per_label']:.2f} bits a label, "
            f"compression {best['value']:.2f} ({best['ci_low']:.2f} to {best['ci_high']:.2f}), "
            f"against {', '.join(against)}; {best['n']:,} rows in {best['n_groups']:,} groups, "
            f"accuracy on the {last_block(self.table)} {best['accuracy']:.3f}."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = self.best
        bits, without = (
            f"{best['bits_per_label']:.2f}",
            f"{best['baseline_bits_per_label']:.2f}",
        )
        if not best["ci_low"] > 1:
            return f"{capital(self.subject)} saves no bits at any layer: {bits} each, without a model {without}."
        said = f"{capital(self.subject)} takes the fewest bits at {place(best['site'])}: {bits} each, without a model {without}"
        if not known(best.get("control")):
            return f"{said}."
        if best["ci_low"] <= best["control"]:
            return f"{said}, but random labels gain as much."
        return f"{said}, random labels {best['control_bits_per_label']:.2f}."

    @property
    def sites(self) -> Any:
        """The lines of whole codes, one per site."""
        return self.table[self.table["part"] == "code"]

    @property
    def best(self) -> dict[str, Any]:
        """The line of the shortest code."""
        line = self.sites.iloc[int(self.sites["value"].argmax())]
        return {str(column): value for column, value in line.items()}

    def figure(self) -> go.Figure:
        """Bits per label by layer, and at the best layer as they fall with the rows seen."""
        from layerscope.probes.coding.figure import layers_and_blocks

        return layers_and_blocks(self.table, self.best["site"])
