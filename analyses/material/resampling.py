"""Intervals of means over texts: whole groups are drawn again, so tokens of one text stay together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.scoring.intervals import GroupBootstrap

Floats = NDArray[np.float64]


def mean_intervals(
    sums: Floats, counts: Floats, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Ends of the interval of ``sums.sum(0) / counts.sum()`` over resampled groups.

    Args:
        sums: ``[groups, values]`` sum of each value over the rows of a group.
        counts: ``[groups]`` rows of each group.
        draws: How many resamples; the same ones for every value, so that values are comparable.
        seed: The same seed gives the same draws.
        level: Share of the draws inside.

    Returns:
        Low and high ends, each ``[values]``; NaN where there are fewer than two groups.
    """
    if len(sums) < 2:
        return np.full(sums.shape[1], np.nan), np.full(sums.shape[1], np.nan)
    drawn = GroupBootstrap(np.arange(len(sums)), draws=draws, seed=seed).times.astype(float)
    # A difference from the whole mean: where all rows agree, the interval is that number exactly.
    mean = sums.sum(0) / counts.sum()
    means = mean + (drawn @ (sums - counts[:, None] * mean)) / (drawn @ counts)[:, None]
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return low, high
