"""Intervals of shares, and of differences of shares that were counted on the same cases."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.scoring.intervals import GroupBootstrap

Z95 = 1.959964


def wilson(right: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of the share ``right / n``; it holds its level even at 0 and `n`.

    `right` need not be whole: a mean over several draws of a control, times n, gives the interval
    of one draw, which is wider than that of the mean.

    >>> tuple(round(end, 3) for end in wilson(0, 10))
    (0.0, 0.278)
    """
    share, z2 = right / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a mean over cases, from 1,000 resamples: of paired differences, mostly.

    >>> mean_interval(np.ones(5))
    (1.0, 1.0)
    """
    mean = float(values.mean())
    # From the mean: where all values agree the interval is that number exactly.
    drawn = mean + _draws(len(values), seed) @ (values - mean) / len(values)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _draws(cases: int, seed: int) -> NDArray[np.uint16]:
    """How often each draw takes each case, `[draws, cases]`."""
    return GroupBootstrap(np.arange(cases), seed=seed).times
