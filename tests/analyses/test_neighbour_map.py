"""UMAP leaves the process as it was, and keeps bundles together."""

from __future__ import annotations

import numpy as np
import torch

from layerscope.analyses.material.neighbour_map import neighbour_map


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
