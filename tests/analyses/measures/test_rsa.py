"""RSA: against scipy, its null, and what rotations do to it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from layerscope.analyses.measures import rsa
from layerscope.planted import clouds

BOUNDS = (0, 20, 45, 60)


@pytest.fixture(scope="module")
def rows() -> list[torch.Tensor]:
    x = clouds.gaussian(60, clouds.power_law(8))
    return [x, clouds.blurred(x, 0.8, seed=1), clouds.gaussian(60, clouds.isotropic(5), seed=2)]


def test_values_and_left_out_values_are_scipy_s(rows: list[torch.Tensor]) -> None:
    found = rsa.correlation(rsa.rank_sums([rsa.rdm(x) for x in rows], BOUNDS))
    for i in range(3):
        for j in range(3):
            expected = spearmanr(*(pdist(rows[k].numpy(), "correlation") for k in (i, j))).statistic
            assert float(found[0, i, j]) == pytest.approx(expected, abs=1e-6)
    # Without a block the ranks stay those of all rows: nearly the same.
    kept = torch.arange(60) >= 20
    expected = spearmanr(*(pdist(x[kept].numpy(), "correlation") for x in rows[:2])).statistic
    assert float(found[1, 0, 1]) == pytest.approx(expected, abs=0.01)


def test_cosines_do_not_see_rotations_and_pearson_sees_the_mean_feature() -> None:
    x = clouds.gaussian(60, clouds.isotropic(10))
    y = x @ clouds.rotation(10)
    cosine = rsa.rank_sums([rsa.rdm(z, pearson=False) for z in (x, y)], BOUNDS)
    assert float(rsa.correlation(cosine)[0, 0, 1]) == pytest.approx(1, abs=1e-6)
    pearson = rsa.rank_sums([rsa.rdm(z) for z in (x, y)], BOUNDS)
    assert 0.5 < float(rsa.correlation(pearson)[0, 0, 1]) < 0.95
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    permuted = rsa.rank_sums([rsa.rdm(z) for z in (x, x[:, order])], BOUNDS)
    assert float(rsa.correlation(permuted)[0, 0, 1]) == pytest.approx(1, abs=1e-6)


def test_the_null_is_that_of_rows_in_random_order(rows: list[torch.Tensor]) -> None:
    deviation = rsa.permuted_deviation(rsa.rank_sums([rsa.rdm(x) for x in rows], (0, 60)))
    generator = torch.Generator().manual_seed(0)
    one = rsa.rdm(rows[0])
    drawn = []
    for _ in range(800):
        other = rsa.rdm(rows[2][torch.randperm(60, generator=generator)])
        drawn.append(float(rsa.correlation(rsa.rank_sums([one, other], (0, 60)))[0, 0, 1]))
    assert np.mean(drawn) == pytest.approx(0, abs=4 * np.std(drawn) / 800**0.5)
    assert np.std(drawn) == pytest.approx(float(deviation[0, 2]), rel=0.1)


def test_the_null_is_exact_over_every_order_of_six_rows() -> None:
    x, y = (clouds.gaussian(6, clouds.isotropic(4), seed=s) for s in (0, 1))
    values = []
    for order in itertools.permutations(range(6)):
        rdms = [rsa.rdm(x), rsa.rdm(y[list(order)])]
        values.append(float(rsa.correlation(rsa.rank_sums(rdms, (0, 6)))[0, 0, 1]))
    sums = rsa.rank_sums([rsa.rdm(x), rsa.rdm(y)], (0, 6))
    assert np.mean(values) == pytest.approx(0, abs=1e-6)
    assert np.std(values) == pytest.approx(float(rsa.permuted_deviation(sums)[0, 1]), rel=1e-5)


def test_a_row_without_spread_is_dissimilar_to_all() -> None:
    x = clouds.gaussian(5, clouds.isotropic(4))
    x[2] = 3.0
    found = rsa.rdm(x)
    assert found[2].tolist() == [1.0] * 5
    assert torch.isfinite(found).all()
