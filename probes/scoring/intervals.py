"""Intervals by resampling groups: sentences, documents, images, whatever must not be torn apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK = 100


class GroupBootstrap:
    """Draws of whole groups with replacement, shared by every score of one table.

    Because the draws are shared, scores of different layers go up and down together, as they do
    in the data.

    Args:
        groups: ``[rows]`` number of the group of each row, from 0.
        draws: How many resamples.
        seed: The same seed gives the same draws.
    """

    def __init__(self, groups: NDArray[np.int64], *, draws: int = 1000, seed: int = 0) -> None:
        self.groups = groups
        self.count = int(groups.max()) + 1
        generator = np.random.default_rng(seed)
        self.times = np.empty((draws, self.count), dtype=np.uint16)
        for draw in range(draws):
            picked = generator.integers(self.count, size=self.count)
            self.times[draw] = np.bincount(picked, minlength=self.count)

    def ratio(self, loss: Floats, scale: Floats, *, level: float = 0.95) -> tuple[float, float]:
        """Interval of ``1 - sum(loss) / sum(scale)``: accuracy or R2, over resampled groups.

        Args:
            loss: ``[rows]`` misses, or squared errors.
            scale: ``[rows]`` ones, or squared deviations from the baseline.
            level: Share of the draws inside.
        """
        sums = np.stack([np.bincount(self.groups, x, self.count) for x in (loss, scale)], axis=1)
        blocks = range(0, len(self.times), _BLOCK)
        drawn = np.concatenate([self.times[i : i + _BLOCK].astype(float) @ sums for i in blocks])
        values = 1 - drawn[:, 0] / drawn[:, 1]
        tail = 50 * (1 - level)
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)
