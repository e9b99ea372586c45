"""The sampled rows of every site, as the measures take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks
from layerscope.analyses.resemblance.cells import Matrices
from layerscope.analyses.resemblance.matching import Matched
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.store import Store

BLOCKS = 20
"""Groups are left out in so many blocks for the intervals, at most."""
BATCH = (32, 256)
"""Least and most rows of a batch of minibatch CKA; between them a twentieth of the rows."""
LEAST = 5


@dataclass(frozen=True)
class Place:
    """One site of one store."""

    name: str
    store: Store
    site: str
    index: NDArray[np.int64]
    """``[rows]`` where the matched rows are in the store"""


@dataclass(frozen=True)
class Options:
    """What is measured, on how many rows; see `similarity`."""

    measures: tuple[str, ...]
    max_rows: int
    k: int
    bandwidth: float
    draws: int
    device: str | None
    seed: int
    progress: bool


def matrices(places: Sequence[Place], found: Matched, options: Options) -> Matrices:
    """The sampled rows of every place, sorted by the block they are left out with.

    Raises:
        ValueError: fewer than `LEAST` rows, no more than ``k`` for ``knn``, or activations that are NaN or infinite.
    """
    if len(found) < LEAST:
        raise ValueError(f"similarity needs at least {LEAST} rows, there are {len(found)}")
    generator = np.random.default_rng(options.seed)
    chosen = np.arange(len(found))
    if len(found) > options.max_rows:
        chosen = np.sort(generator.choice(len(found), options.max_rows, replace=False))
    if "knn" in options.measures and len(chosen) <= options.k:
        raise ValueError(
            f"knn compares the {options.k} nearest rows of each row, and there are {len(chosen)} rows; "
            f"pass k= below {len(chosen)}, more data, or measures= without knn"
        )
    groups = np.unique(found.groups[chosen], return_inverse=True)[1].astype(np.int64)
    blocks = Blocks.of(groups, most=BLOCKS, seed=options.seed)
    order = blocks.order
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    x = []
    for place in places:
        index = place.index[chosen]
        rows = place.store[place.site][index]
        check_finite(place.site, rows, index)
        x.append(rows[torch.from_numpy(order)].to(device))
    return Matrices(
        x,
        groups[order],
        Blocks(blocks.number[order]),
        options.k,
        options.bandwidth,
        options.draws,
        options.seed,
        lambda: _batches(places, len(found), device, options.seed),
    )


def _batches(places: Sequence[Place], n: int, device: str, seed: int) -> Iterator[Sequence[Tensor]]:
    """All rows once, in random order; the same rows of every place at a time."""
    order = np.random.default_rng(seed).permutation(n)
    size = min(n, max(BATCH[0], min(BATCH[1], n // BLOCKS)))
    for first in range(0, n - n % size, size):
        part = order[first : first + size]
        batch = []
        for place in places:
            index = place.index[part]
            rows = place.store[place.site][index]
            check_finite(place.site, rows, index)
            batch.append(rows.to(device))
        yield batch
