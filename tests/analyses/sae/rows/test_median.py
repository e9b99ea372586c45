"""The geometric median against scipy, closed forms, and inputs that divide by zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from layerscope.analyses.sae.rows.median import geometric_median


def cost(point: np.ndarray, rows: np.ndarray) -> float:
    return float(np.linalg.norm(rows - point, axis=1).sum())


@pytest.mark.parametrize("seed", range(6))
def test_against_an_independent_optimiser(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_t(2, (200, 4)) * random.uniform(0.2, 3, 4) + 10 * random.normal(size=4)
    found = geometric_median(torch.tensor(rows), tolerance=1e-9).numpy()
    best = minimize(cost, rows.mean(0), args=(rows,), method="BFGS", options={"gtol": 1e-9})
    assert cost(found, rows) <= best.fun * (1 + 1e-9)
    np.testing.assert_allclose(found, best.x, atol=2e-5)


def test_it_is_no_mean_and_no_median_by_dimension() -> None:
    """Three corners of a right triangle: the Fermat point, (3 - sqrt 3) / 6 in both."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = geometric_median(corners, tolerance=1e-12)
    wanted = torch.full((2,), (3 - 3**0.5) / 6, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_one_dimension_gives_the_median() -> None:
    rows = torch.tensor([[1.0], [2.0], [3.0], [50.0], [1000.0]])
    assert geometric_median(rows).item() == pytest.approx(3.0, abs=1e-3)


def test_a_row_that_is_the_median_stays() -> None:
    cross = torch.tensor([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    torch.testing.assert_close(geometric_median(cross), torch.zeros(2), atol=1e-7, rtol=0)


def test_a_start_on_a_row_that_is_not_the_median_is_left() -> None:
    """The mean, where the iteration starts, is a row; the median is elsewhere."""
    rows = torch.tensor([[0.0, 0.0], [-1.0, 0.1], [-1.0, -0.1], [-1.0, 0.0], [3.0, 0.0]])
    assert rows.mean(0).abs().max() < 1e-7
    found = geometric_median(rows.double(), tolerance=1e-10).numpy()
    best = minimize(cost, [-0.5, 0.0], args=(rows.numpy(),), method="Nelder-Mead", tol=1e-10)
    np.testing.assert_allclose(found, best.x, atol=1e-5)
    assert found[0] < -0.5


def test_a_start_on_rows_that_are_the_median_stays_there() -> None:
    """The others pull with 0.41 to the left, the three at the mean hold with 3."""
    rows = torch.tensor([[0.0, 0.0]] * 3 + [[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert torch.equal(geometric_median(rows), torch.zeros(2))


def test_a_heavy_row_holds() -> None:
    """More than half of the rows on one point: that point is the median, whatever the others."""
    rows = torch.cat([torch.full((60, 3), 2.0), torch.randn(50, 3) * 100])
    torch.testing.assert_close(geometric_median(rows), torch.full((3,), 2.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_equal_rows_divide_by_nothing(count: int) -> None:
    assert torch.equal(geometric_median(torch.full((count, 3), 7.0)), torch.full((3,), 7.0))


def test_invariances() -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 6, generator=random, dtype=torch.float64).exp()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=random, dtype=torch.float64))[0]
    base = geometric_median(rows, tolerance=1e-10)
    moved = geometric_median(rows @ turn * 40 - 1e4, tolerance=1e-10)
    torch.testing.assert_close(moved, base @ turn * 40 - 1e4, atol=1e-5, rtol=0)
    torch.testing.assert_close(geometric_median(rows.float()).double(), base, atol=1e-4, rtol=0)
    order = torch.randperm(300, generator=random)
    torch.testing.assert_close(geometric_median(rows[order], tolerance=1e-10), base)


def test_an_outlier_hardly_moves_it() -> None:
    rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    far = torch.cat([rows, torch.full((1, 5), 1e6)])
    assert (geometric_median(far) - geometric_median(rows)).norm() < 0.05
    assert (far.mean(0) - rows.mean(0)).norm() > 1e4


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n at least 1, got \[0, 3\]"):
        geometric_median(torch.zeros(0, 3))
