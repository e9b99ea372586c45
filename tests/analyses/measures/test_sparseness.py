"""Sparsity of rows: k-hot rows and rectified Gaussians, whose measures are known."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.measures.sparseness import (
    active,
    energy,
    gaussian_active,
    gaussian_energy,
    gaussian_hoyer,
    gaussian_treves_rolls,
    hoyer,
    treves_rolls,
)
from layerscope.planted.activity import k_hot, rectified


@pytest.mark.parametrize(("threshold", "percent"), [(0, 50), (1.5301, 6.3), (1.8808, 3.0)])
def test_rectified_gaussians(threshold: float, percent: float) -> None:
    a, truth = rectified(2000, 1024, threshold)
    assert 100 * truth == pytest.approx(percent, abs=0.005)
    assert 100 * active(a, [0]).mean().item() == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize(("width", "k"), [(64, 1), (64, 10), (3072, 256), (100, 100), (37, 13)])
def test_k_hot_rows(width: int, k: int) -> None:
    a, truth = k_hot(20, width, k)
    for x in (a, a.double() * 1e30, a * 1e-30, -3 * a):
        assert active(x, [0, 0.1])[:, 0].tolist() == pytest.approx([truth["active"]] * 20)
        assert energy(x, [0.9])[:, 0].tolist() == [truth["energy"]] * 20
        assert hoyer(x).tolist() == pytest.approx([truth["hoyer"]] * 20, abs=1e-5)
        assert treves_rolls(x).tolist() == pytest.approx([truth["treves_rolls"]] * 20, abs=1e-5)


def test_dense_gaussian_rows() -> None:
    a = torch.randn(400, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for level in (0.01, 0.1, 1.0):
        assert active(a, [level]).mean().item() == pytest.approx(gaussian_active(level), abs=1e-3)
    for share in (0.9, 0.95, 0.99):
        found = energy(a, [share]).double().mean().item() / 4096
        assert found == pytest.approx(gaussian_energy(share), abs=2e-3)
    assert hoyer(a).mean().item() == pytest.approx(gaussian_hoyer(4096), abs=1e-3)
    assert treves_rolls(a).mean().item() == pytest.approx(gaussian_treves_rolls(), abs=1e-3)


def test_a_row_of_zeros_has_no_shape() -> None:
    a = torch.zeros(2, 8)
    assert active(a, [0]).tolist() == [[0], [0]]
    assert energy(a, [0.9]).tolist() == [[0], [0]]
    assert hoyer(a).isnan().all()
    assert treves_rolls(a).isnan().all()


def test_order_of_neurons_and_precision_do_not_matter() -> None:
    a, _ = rectified(50, 300, 0.5, seed=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for x in (a[:, order], a.double()):
        assert torch.equal(active(x, [0, 0.1]), active(a, [0, 0.1]))
        assert torch.equal(energy(x, [0.9, 0.99]), energy(a, [0.9, 0.99]))
        torch.testing.assert_close(hoyer(x).float(), hoyer(a), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(treves_rolls(x).float(), treves_rolls(a), rtol=1e-5, atol=1e-6)
