"""Effects of what-ifs, collected over batches of texts, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.skipping.skip_lanes import Lane

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "measure",
    "change",
    "part",
    "tokens",
    "layer",
    "later",
    "value",
    "ci_low",
    "ci_high",
    "max",
    "twin",
    "twin_low",
    "twin_high",
    "twin_max",
    "noise",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/layer_skip.md says what each one means."""
UNITS = {
    "later": "relative change",
    "direct": "relative change",
    "output": "distance of probabilities",
    "divergence": "nats",
    "loss": "nats/token",
}
Key = tuple[str, str]
"""Measure, and ``all`` or ``future`` tokens."""


@dataclass(eq=False)
class Sums:
    """One measure: sums by group, token counts by group, and the largest value of all."""

    sums: NDArray[np.float64]
    """``[groups, blocks, ...]``"""
    counts: NDArray[np.float64]
    """``[groups, blocks]``"""
    most: NDArray[np.float64]
    """``[blocks, ...]``"""


@dataclass(eq=False)
class Totals:
    """Every measure of one model."""

    blocks: int
    groups: int
    found: dict[Key, Sums] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    """Largest effect of a lane in which nothing was changed."""
    evaluations: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        measure: str,
        wanted: Sequence[Lane],
        sums: Tensor,
        most: Tensor,
        counts: Tensor,
        groups: NDArray[np.int64],
    ) -> None:
        """Effects on one batch.

        Args:
            sums: ``[lanes, ..., texts]`` over the tokens read.
            most: The largest of them, the same shape.
            counts: ``[lanes]`` tokens read in each text.
            groups: ``[texts]``.
        """
        for n, lane in enumerate(wanted):
            largest = most[n].numpy().max(-1)
            if lane.block < 0:
                self.noise[measure] = max(self.noise.get(measure, 0.0), float(np.max(largest)))
                continue
            into = self._sums((measure, _tokens(lane)), sums[n].shape[:-1])
            np.add.at(into.sums[:, lane.block], groups, sums[n].movedim(-1, 0).numpy())
            np.add.at(into.counts[:, lane.block], groups, float(counts[n]))
            into.most[lane.block] = np.maximum(into.most[lane.block], largest)

    def _sums(self, key: Key, shape: Sequence[int]) -> Sums:
        if key not in self.found:
            size = (self.blocks, *shape)
            counts = np.zeros((self.groups, self.blocks))
            self.found[key] = Sums(np.zeros((self.groups, *size)), counts, np.zeros(size))
        return self.found[key]


def _tokens(lane: Lane) -> str:
    return "future" if lane.read >= lane.stop else "all"


def table(found: Totals, twin: Totals | None, change: str, part: str, seed: int) -> pd.DataFrame:
    """One line for each changed block and measure; for effects on later blocks also for each of them."""
    import pandas as pd

    lines = pd.DataFrame(_lines(found, change, seed))
    keys = ["measure", "tokens", "layer", "later"]
    if twin is not None:
        other = pd.DataFrame(_lines(twin, change, seed))[
            [*keys, "value", "ci_low", "ci_high", "max"]
        ]
        names = {"value": "twin", "ci_low": "twin_low", "ci_high": "twin_high", "max": "twin_max"}
        lines = lines.merge(other.rename(columns=names), on=keys, how="left")
    lines["later"] = lines["later"].astype("Int64")
    lines["change"], lines["part"] = change, part
    lines["noise"] = lines["measure"].map(found.noise)
    lines["unit"] = lines["measure"].map(UNITS)
    lines["estimator"] = "mean over tokens"
    return lines[[column for column in COLUMNS if column in lines]]


def _lines(found: Totals, change: str, seed: int) -> Iterator[dict[str, Any]]:
    order = [(measure, tokens) for measure in UNITS for tokens in ("all", "future")]
    for measure, tokens in (key for key in order if key in found.found):
        total = found.found[measure, tokens]
        by_later = total.sums.ndim == 3
        changed = [i for i in range(found.blocks) if total.counts[:, i].sum()]
        for layer in changed:
            there = total.counts[:, layer] > 0
            sums, counts = total.sums[there, layer], total.counts[there, layer]
            sums = sums if by_later else sums[:, None]
            low, high = mean_intervals(sums, counts, seed=seed)
            first = layer + {"skip": 0, "repeat": 1, "swap": 2}[change]
            first += measure == "direct" and change == "skip"
            for column in range(first, found.blocks) if by_later else [0]:
                yield {
                    "measure": measure,
                    "tokens": tokens,
                    "layer": layer,
                    "later": column if by_later else None,
                    "value": sums[:, column].sum() / counts.sum(),
                    "ci_low": low[column],
                    "ci_high": high[column],
                    "max": total.most[layer, column] if by_later else total.most[layer],
                    "n": int(counts.sum()),
                    "n_groups": len(counts),
                }
