"""Minimum description length: how many bits the labels take once the activations are known.

Accuracy often ties where effort does not: a label that a layer lays open is learnt from few rows,
one that must be memorised is not. The code is the online code of `coding.online`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerscope.hooks.sites import layer_of
from layerscope.probes.coding.finding import COLUMNS, CodeFinding
from layerscope.probes.coding.measurement import Sending
from layerscope.probes.coding.online import FRACTIONS, SMOOTHING
from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.reading.rows import Plan, plan
from layerscope.probes.reading.sources import Source
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.parallel import side_by_side

if TYPE_CHECKING:
    import pandas as pd

_LATE_START = 0.01
"""A first block that is a larger share of the rows than this is worth a note."""


@dataclass(frozen=True)
class MDL(SourceKind):
    """The online codelength of a label, as compression against uniform probabilities."""

    name = "mdl"

    l2: float | None = None
    """The penalty on half the squared norm of the weights; None chooses it from block to block."""
    orders: int = 3
    """Random orders of the groups; the interval covers what the order does to the code."""
    fractions: tuple[float, ...] = FRACTIONS
    """Ends of the blocks, as shares of the rows."""
    smoothing: float = SMOOTHING
    """Share of the uniform distribution in every probability."""

    def __post_init__(self) -> None:
        if self.orders < 1 or not 0 < self.smoothing < 1:
            raise ValueError(
                f"orders must be at least 1 and smoothing between 0 and 1, got {self.orders} and "
                f"{self.smoothing}"
            )

    def measure(self, source: Source, asked: Asked) -> CodeFinding:
        """Codelengths at every site.

        Raises:
            ValueError: a label of numbers, fractions that do not ascend to 1, or see `rows.plan`.
        """
        chosen = plan(
            source.store,
            asked.label,
            task=asked.task,
            pieces=asked.pieces,
            folds=asked.folds,
            max_rows=asked.max_rows,
            seed=asked.seed,
        )
        if not chosen.classes:
            raise ValueError(
                f"{chosen.label} is a number, and kind='mdl' sends classes: give task='class', or "
                "a label with a few levels"
            )
        sending = Sending(
            chosen,
            self.fractions,
            self.smoothing,
            self.l2,
            self.orders,
            control=asked.control,
            solver=asked.solver,
            device=asked.device,
            seed=asked.seed,
        )
        lines = _lines(sending, source, asked.progress)
        return CodeFinding(
            table=_table(lines, sending),
            provenance=provenance(source, self, asked, label=chosen.label, task="class"),
            notes=(*source.store.notes, *chosen.notes, *self._cautions(chosen, sending, lines)),
        )

    def _cautions(self, chosen: Plan, sending: Sending, lines: list[dict[str, Any]]) -> list[str]:
        blocks = len(sending.orders[0].bounds) - 1
        notes = [f"online code: {blocks} blocks that end with a group, {_orders(self.orders)}"]
        first = max(order.bounds[1] for order in sending.orders) / sending.rows
        if first > _LATE_START:
            notes.append(
                f"the first block, sent with uniform probabilities, is up to {first:.1%} of the "
                f"rows, because a group stays whole: no compression here can pass {1 / first:.0f}"
            )
        if sending.bootstrap.count < 20:
            notes.append(
                f"intervals rest on {sending.bootstrap.count} groups only, and are likely too narrow"
            )
        if sending.control and chosen.types is None:
            notes.append("no control task: rows are not words, so there are no word types")
        unfinished = sum(line["unfinished"] for line in lines if "unfinished" in line)
        if unfinished:
            notes.append(f"{unfinished} probes stopped before they had converged")
        notes.append("a short code shows what is easily read off a layer, not what the model uses")
        return notes


def _orders(count: int) -> str:
    if count == 1:
        return "one random order; the interval covers other groups, not other orders"
    return f"{count} random orders; the interval covers other groups and other orders"


def _lines(sending: Sending, source: Source, progress: bool) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    index = sending.plan.index
    _ = (
        sending.orders,
        sending.targets,
        sending.bootstrap,
        sending.frequencies,
    )  # before the threads

    def lines(site: str) -> list[dict[str, Any]]:
        x = source.store[site][index]
        codes, twin = sending.codes(site, x), None
        line = {"part": "code", **sending.line(codes), "width": x.shape[1]}
        if source.twin is not None:
            twin = sending.codes(f"{site} of the twin", source.twin[site][index], tasks=1)
            bits = sending.line(twin)
            line |= {
                "twin": bits["value"],
                "twin_low": bits["ci_low"],
                "twin_high": bits["ci_high"],
            }
        curve = [{"part": "block"} | point for point in sending.curve(codes, twin)]
        return [{"site": site, "layer": layer_of(site)} | part for part in (line, *curve)]

    width = max(source.store.sites[site].width for site in source.sites)
    taken = 8 * width * (len(index) + len(sending.fractions) * width)
    found = side_by_side(lines, source.sites, item_bytes=taken)
    name, total = f"codelength of {sending.plan.label}", len(source.sites)
    shown = tqdm(found, name, total, unit="site", disable=not progress)
    return [line for site in shown for line in site]


def _table(lines: list[dict[str, Any]], sending: Sending) -> pd.DataFrame:
    import pandas as pd

    chosen = sending.plan
    table = pd.DataFrame(lines)
    table["label"] = chosen.label
    table["n"] = len(chosen.index)
    table["n_groups"] = sending.bootstrap.count
    table["n_classes"] = len(chosen.classes)
    table["orders"] = sending.count
    whole = table["part"] == "code"
    table["unit"] = whole.map({True: "compression", False: "bits per label"})
    table["estimator"] = "online code, multinomial logistic, L2"
    for column in ("layer", "width", "block"):
        table[column] = table[column].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]
