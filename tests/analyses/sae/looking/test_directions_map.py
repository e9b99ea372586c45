"""The map: neighbours by cosine stay together, and the same seed draws the same map."""

from __future__ import annotations

import numpy as np
import torch

from layerscope.analyses.sae.looking.directions_map import LEAST, directions_map


def bundles() -> torch.Tensor:
    """Three bundles of 20 directions, of very different lengths."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.eye(12)[:3].repeat_interleave(20, 0)
    rows = middles + 0.05 * torch.randn(60, 12, generator=generator)
    return rows * torch.linspace(0.1, 30, 60)[:, None]


def apart(places: np.ndarray) -> float:  # type: ignore[type-arg]
    """Smallest distance between bundles over the largest within one."""
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    bundle = np.repeat(np.arange(3), 20)
    same = bundle[:, None] == bundle
    return float(far[~same].min() / far[same].max())


def test_bundles_are_islands_whatever_their_lengths() -> None:
    places = directions_map(bundles(), "umap", seed=0)
    assert places.shape == (60, 2)
    assert apart(places) > 1
    assert np.array_equal(places, directions_map(bundles() * 8, "umap", seed=0))


def test_pca_is_the_two_directions_of_most_variance() -> None:
    rows = bundles().double()
    unit = rows / rows.norm(dim=1, keepdim=True)
    centred = unit - unit.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    found = directions_map(rows, "pca")
    np.testing.assert_allclose(np.abs(found), (u[:, :2] * s[:2]).abs(), atol=1e-5)


def test_few_latents_none_and_one_dimension() -> None:
    few = torch.randn(LEAST - 1, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(directions_map(few, "umap"), directions_map(few, "pca"))
    assert np.isnan(directions_map(few, "none")).all()
    assert directions_map(torch.ones(5, 1), "pca").shape == (5, 2)
    assert np.isfinite(directions_map(torch.zeros(5, 3), "pca")).all()
