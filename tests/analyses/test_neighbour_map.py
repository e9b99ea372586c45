"""UMAP leaves the process as it was, and keeps bundles together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.material.neighbour_map import _nearest, neighbour_map


def test_bundles_stay_together_and_threads_stay_as_they_were() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(size=(40, 8)) + 30 * np.eye(8)[i] for i in range(2)])
    before = torch.get_num_threads()
    placed = neighbour_map(rows, neighbours=10, min_dist=0.1, seed=0)
    assert torch.get_num_threads() == before
    one, two = placed[:40], placed[40:]
    apart = np.linalg.norm(one.mean(0) - two.mean(0))
    assert apart > 3 * max(one.std(), two.std())
    assert np.array_equal(placed, neighbour_map(rows, neighbours=10, min_dist=0.1, seed=0))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_are_those_that_umap_finds_by_itself(metric) -> None:
    from sklearn.metrics import pairwise_distances
    from umap.distances import named_distances
    from umap.utils import fast_knn_indices

    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    rows[20:30] = rows[:10]  # ties
    index, near = _nearest(rows, 10, metric)
    apart = pairwise_distances(rows, metric=named_distances[metric])
    assert np.array_equal(index, fast_knn_indices.py_func(apart, 10))
    assert np.array_equal(near, np.sort(apart, axis=1)[:, :10])


def test_umap_searches_by_itself_among_many_rows() -> None:
    assert _nearest(np.zeros((4096, 2), dtype=np.float32), 10, "euclidean") == (None, None, None)
