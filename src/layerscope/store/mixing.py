"""In which order rows are read when they are shuffled: mixed over all rows, kind to a disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

POOL_BYTES = 256 << 20
"""What is held in memory and mixed uniformly at a time."""
RUN_BYTES = 64 << 10
"""Neighbouring rows that enter a pool together: large enough for a disk to read at speed."""

Index = np.ndarray[Any, np.dtype[np.int64]]


def pools(count: int, row_bytes: int, size: int, seed: int) -> Iterator[tuple[Index, Index]]:
    """All of ``range(count)`` once: the members of each pool, ascending, and a permutation of them.

    Up to POOL_BYTES there is one pool, so the order is a uniform permutation. Beyond, each pool is
    made of runs of RUN_BYTES from random places of the whole range, and then permuted row by row:
    memory stays bounded, and a disk reads runs instead of single rows. Every pool but the last
    holds a multiple of `size`; what is left over joins the next one.
    """
    random = np.random.default_rng(seed)
    run = max(1, RUN_BYTES // row_bytes)
    runs = random.permutation(-(-count // run))
    number = max(1, -(-count * row_bytes // POOL_BYTES))
    left: Index = np.empty(0, np.int64)
    for place, chosen in enumerate(np.array_split(runs, number), start=1):
        members = (chosen[:, None] * run + np.arange(run)).ravel()
        members = np.sort(np.concatenate([members[members < count], left]))
        order = random.permutation(len(members))
        whole = len(order) if place == number else len(order) - len(order) % size
        left = members[order[whole:]]
        if whole:
            yield members, order[:whole]
