"""In which order rows are read when they are shuffled: mixed over all rows, kind to a disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

POOL_BYTES = 1 << 30
"""What is mixed uniformly at a time; stays in the page cache while it is being read."""
RUN_BYTES = 64 << 10
"""Neighbouring rows that enter a pool together: large enough for a disk to read at speed."""

Index = np.ndarray[Any, np.dtype[np.int64]]


def shuffled(
    count: int, row_bytes: int, seed: int, *, pooled_bytes: int | None = None
) -> Iterator[Index]:
    """All of ``range(count)`` once, in random order, pool after pool.

    Up to POOL_BYTES there is one pool, so the order is a uniform permutation. Beyond, each pool is
    made of runs of RUN_BYTES from random places of the whole range, and then permuted row by row:
    the first row of a run brings its neighbours into the page cache, so a disk reads runs.

    Args:
        row_bytes: Of one row where it lies: decides how many neighbours are a run.
        pooled_bytes: Of one row at all the sites that are read by this order, which a pool must
            hold together; None where that is `row_bytes`.
    """
    random = np.random.default_rng(seed)
    run = max(1, RUN_BYTES // row_bytes)
    runs = random.permutation(-(-count // run))
    pooled = row_bytes if pooled_bytes is None else pooled_bytes
    pools = max(1, -(-count * pooled // POOL_BYTES))
    for chosen in np.array_split(runs, pools):
        members = (chosen[:, None] * run + np.arange(run)).ravel()
        yield random.permutation(members[members < count])


def cut(pieces: Iterable[Index], size: int) -> Iterator[Index]:
    """The same numbers in pieces of exactly `size`; only the last may be shorter."""
    kept: Index = np.empty(0, np.int64)
    for piece in pieces:
        kept = np.concatenate([kept, piece])
        whole = len(kept) - len(kept) % size
        yield from (kept[first : first + size] for first in range(0, whole, size))
        kept = kept[whole:]
    if len(kept):
        yield kept
