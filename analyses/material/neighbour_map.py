"""UMAP as this package uses it: quiet, seeded, and leaving torch's threads as they were."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_ALL_PAIRS = 4096
"""From so many rows on, UMAP looks for neighbours by an approximate search."""


def neighbour_map(
    rows: NDArray[Any],
    *,
    neighbours: int,
    min_dist: float,
    seed: int,
    metric: str = "euclidean",
    init: str | NDArray[np.float32] = "spectral",
) -> NDArray[np.float64]:
    """Places ``[rows, 2]`` that keep neighbours together (McInnes et al. 2018, arXiv 1802.03426).

    The first call of a process compiles for some seconds.

    Args:
        rows: [rows, width].
        neighbours: Kept together; fewer where there are fewer rows.
        min_dist: Smallest distance of two places.
        seed: The same seed gives the same map.
        metric: Of the rows.
        init: First places, or the name of a way to find them.
    """
    with warnings.catch_warnings(), _same_threads():
        # It says that a seed rules out several workers, and that few rows have few eigenvectors.
        warnings.simplefilter("ignore")
        from umap import UMAP

        near = min(neighbours, len(rows) - 1)
        model = UMAP(
            n_neighbors=near,
            min_dist=min_dist,
            metric=metric,
            init=init,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=_nearest(np.asarray(rows, dtype=np.float32), near, metric),
        )
        return np.asarray(model.fit_transform(rows), dtype=np.float64)


def _nearest(rows: NDArray[np.float32], count: int, metric: str) -> tuple[Any, ...]:
    """What UMAP itself finds where it compares all pairs, without compiling its sort for seconds."""
    from sklearn.metrics import pairwise_distances
    from umap.distances import named_distances

    if len(rows) >= _ALL_PAIRS:
        return (None, None, None)
    apart = pairwise_distances(rows, metric=named_distances[metric])
    index = apart.argsort(axis=1, kind="stable")[:, :count].astype(np.int32)
    return index, np.take_along_axis(apart, index, axis=1)


@contextmanager
def _same_threads() -> Iterator[None]:
    """numba sets the number of OpenMP threads for the whole thread it runs in, torch's included."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
