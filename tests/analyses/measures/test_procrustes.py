"""Procrustes: against scipy, its golden values, and its metric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from layerscope.analyses.measures import procrustes
from layerscope.planted import clouds


def isotropic(rows: int, width: int, seed: int) -> Tensor:
    return clouds.gaussian(rows, clouds.isotropic(width), seed=seed)


def distance(x: Tensor, y: Tensor) -> procrustes.Fit:
    return procrustes.fit(procrustes.unit(x), procrustes.unit(y))


def test_a_turned_and_scaled_copy_is_at_distance_zero() -> None:
    x = isotropic(300, 10, 0)
    found = distance(x, 5 * x @ clouds.rotation(10) + 3)
    assert found.distance == pytest.approx(0, abs=1e-9)
    assert found.angle == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "p", "q", "expected"),
    [(500, 50, 30, 1.54), (1000, 200, 200, 1.26), (1000, 400, 400, 0.97)],
)
def test_independent_features_are_nearer_the_fewer_the_rows(
    n: int, p: int, q: int, expected: float
) -> None:
    found = distance(isotropic(n, p, 8), isotropic(n, q, 9))
    assert found.distance == pytest.approx(expected, abs=0.012)


def test_it_is_what_is_left_after_scipy_s_rotation() -> None:
    x, y = (procrustes.unit(isotropic(60, 7, s)) for s in (0, 1))
    turn, scale = orthogonal_procrustes(y.numpy(), x.numpy())
    left = np.square(y.numpy() @ turn - x.numpy()).sum()
    found = procrustes.fit(x, y)
    assert found.distance == pytest.approx(left)
    assert found.overlap == pytest.approx(scale)
    assert procrustes.overlap(x, y) == pytest.approx(scale)
    assert float(found.rows.sum()) == pytest.approx(scale)


def test_the_angle_is_a_metric() -> None:
    a, b, c = (procrustes.unit(clouds.gaussian(40, clouds.power_law(6), seed=s)) for s in range(3))
    ab, bc, ac = (procrustes.fit(*pair).angle for pair in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc
    assert procrustes.fit(b, a).angle == pytest.approx(ab)


def test_rows_that_do_not_vary_are_zero() -> None:
    assert float(procrustes.unit(isotropic(5, 3, 0) * 0 + 7).abs().max()) == 0
