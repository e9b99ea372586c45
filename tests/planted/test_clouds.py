"""Planted clouds are what they say."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted import clouds


def test_gaussian_has_its_variances_and_its_mean() -> None:
    variances = clouds.power_law(6, 2.0)
    x = clouds.gaussian(200_000, variances, mean=3.0)
    torch.testing.assert_close(x.var(0), variances, rtol=0.02, atol=0)
    torch.testing.assert_close(x.mean(0), torch.full((6,), 3.0).double(), rtol=0.01, atol=0)


def test_rotation_is_orthogonal_and_cube_stays_in_its_dimension() -> None:
    q = clouds.rotation(9)
    torch.testing.assert_close(q @ q.T, torch.eye(9, dtype=torch.float64))
    assert torch.linalg.matrix_rank(clouds.cube(50, 3, 9)) == 3


def test_blurred_keeps_the_share() -> None:
    x = clouds.gaussian(100_000, clouds.isotropic(2))
    y = clouds.blurred(x, 0.8, seed=1)
    assert float((x * y).mean()) == pytest.approx(0.8, abs=0.01)
    assert float(y.var()) == pytest.approx(1, abs=0.01)


def test_simplex_means_are_equally_far_apart_around_zero() -> None:
    rows, classes = clouds.collapsed(12, clouds.simplex(4))
    assert classes.tolist() == [0, 1, 2, 3] * 3
    assert rows.sum(0).abs().max() < 1e-12
    distances = torch.cdist(rows[:4], rows[:4])
    assert distances[~torch.eye(4, dtype=torch.bool)].std() < 1e-9
