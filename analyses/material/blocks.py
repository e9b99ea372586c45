"""Intervals by leaving out: groups are dealt to blocks, and each block is left out once.

For numbers that are no means over rows (ratios of products, dimensions, similarities) drawing rows
again would count pairs of equal rows; leaving rows out does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The block of each row; rows of one group are in the same block."""

    number: NDArray[np.int64]
    """``[rows]`` from 0"""

    @classmethod
    def of(cls, groups: NDArray[np.int64], *, most: int = 20, seed: int = 0) -> Blocks:
        """Deal whole groups, in random order, to at most `most` blocks of about as many rows."""
        sizes = np.bincount(groups)
        order = np.random.default_rng(seed).permutation(len(sizes))
        middle = np.cumsum(sizes[order]) - sizes[order] / 2
        block = np.empty(len(sizes), dtype=np.int64)
        block[order] = np.minimum(most - 1, (middle / len(groups) * most).astype(np.int64))
        return cls(np.unique(block[groups], return_inverse=True)[1].astype(np.int64))

    @property
    def count(self) -> int:
        return int(self.number.max()) + 1

    @property
    def order(self) -> NDArray[np.int64]:
        """Rows, sorted by block."""
        return np.argsort(self.number, kind="stable")

    @property
    def bounds(self) -> tuple[int, ...]:
        """First row of each block in that order, and the end."""
        return (0, *np.cumsum(np.bincount(self.number)).tolist())

    def sums(self, values: Floats) -> Floats:
        """Sum of ``values [rows, ...]`` over the rows of each block, ``[blocks, ...]``."""
        return np.add.reduceat(values[self.order], self.bounds[:-1], axis=0)


def standard_error(left_out: Any) -> Floats:
    """Jackknife standard error ``[...]`` of values ``[blocks, ...]``, each without one block."""
    values = np.asarray(left_out, dtype=np.float64)
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    squares = np.square(values - values.mean(0)).sum(0)
    return np.asarray(np.sqrt(squares * (len(values) - 1) / len(values)))


def jackknife(value: Any, left_out: Any, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Ends of the interval around ``value [...]`` from values ``[blocks, ...]`` without one block.

    Student's t with ``blocks - 1`` degrees of freedom; NaN where there is one block only.
    """
    from scipy.stats import t

    values = np.asarray(value, dtype=np.float64)
    blocks = len(np.asarray(left_out))
    half = float(t.ppf((1 + level) / 2, max(1, blocks - 1))) * standard_error(left_out)
    return values - half, values + half
