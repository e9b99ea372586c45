"""Dimension counts from eigenvalues: exact values, the finite-sample law, and its correction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.analyses.measures import spectrum
from layerscope.planted import clouds


def eigenvalues(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    return torch.linalg.eigvalsh(x.T @ x / (len(x) - 1))


def corrected(x: Tensor) -> float:
    x = x - x.mean(0)
    covariance = x.T @ x / (len(x) - 1)
    fourth = x.square().sum(1).square().sum()
    found = spectrum.corrected_participation_ratio(
        covariance.trace(), covariance.square().sum(), fourth, len(x)
    )
    return float(found)


def test_of_equal_eigenvalues_all_counts_are_their_number() -> None:
    values = torch.full((17,), 3.0)
    for count in (
        spectrum.participation_ratio,
        spectrum.effective_rank,
        spectrum.stable_rank,
    ):
        assert float(count(values)) == pytest.approx(17)
    assert float(spectrum.top_share(values)) == pytest.approx(1 / 17)
    assert float(spectrum.power_law(values)) == pytest.approx(0)


def test_power_law_has_its_exact_values() -> None:
    values = clouds.power_law(100)
    assert float(spectrum.participation_ratio(values)) == pytest.approx(16.46, abs=0.005)
    assert float(spectrum.effective_rank(values)) == pytest.approx(39.68, abs=0.005)
    assert float(spectrum.power_law(values)) == pytest.approx(1)
    assert float(spectrum.power_law(clouds.power_law(100, 1.7))) == pytest.approx(1.7)


def test_power_law_of_20_000_rows() -> None:
    values = eigenvalues(clouds.gaussian(20_000, clouds.power_law(100)))
    assert float(spectrum.participation_ratio(values)) == pytest.approx(16.46, abs=0.35)
    assert float(spectrum.effective_rank(values)) == pytest.approx(39.5, abs=0.35)
    assert float(spectrum.power_law(values)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("rows", "predicted", "within"), [(200, 66.6, 1.5), (1000, 90.9, 1.0)])
def test_isotropic_rows_fill_fewer_dimensions_than_there_are(
    rows: int, predicted: float, within: float
) -> None:
    x = clouds.gaussian(rows, clouds.isotropic(100))
    plain = float(spectrum.participation_ratio(eigenvalues(x)))
    assert plain == pytest.approx(predicted, abs=within)
    assert plain == pytest.approx(spectrum.isotropic_participation_ratio(rows, 100), abs=within)
    assert corrected(x) == pytest.approx(100, rel=0.02)


def test_the_correction_is_the_u_statistic() -> None:
    """Against sums over all pairs, triples and quadruples of different rows."""
    x = clouds.gaussian(8, clouds.power_law(3), mean=2.0)
    gram = (x @ x.T).numpy()
    pairs, triples, fours = (list(itertools.permutations(range(8), k)) for k in (2, 3, 4))
    a = np.mean([gram[i, j] ** 2 for i, j in pairs])
    b = np.mean([gram[i, j] * gram[j, k] for i, j, k in triples])
    c = np.mean([gram[i, j] * gram[k, l] for i, j, k, l in fours])
    squares = a - 2 * b + c
    d = np.mean([gram[i, i] * gram[j, j] for i, j in pairs])
    e = np.mean([gram[i, i] * gram[j, k] for i, j, k in triples])
    trace = d - 2 * e + c
    assert corrected(x) == pytest.approx(trace / squares)


def test_corrected_is_free_of_bias_where_the_plain_one_is_far_off() -> None:
    """Thirty rows of a hundred features: mean of numerator over mean of denominator."""
    plain, right = [], []
    for seed in range(60):
        x = clouds.gaussian(30, clouds.power_law(100, 0.5), seed=seed)
        plain.append(float(1 / spectrum.participation_ratio(eigenvalues(x))))
        right.append(1 / corrected(x))
    truth = float(1 / spectrum.participation_ratio(clouds.power_law(100, 0.5)))
    assert np.mean(plain) > 1.6 * truth
    assert np.mean(right) == pytest.approx(truth, abs=3 * np.std(right) / 60**0.5)


def test_drawn_covariances_are_those_of_drawn_rows() -> None:
    """Bartlett against normal rows: mean and spread of the largest eigenvalue."""
    variances = clouds.power_law(12, 0.3)
    drawn = spectrum.gaussian_eigenvalues(variances, 40, draws=400)[:, 0]
    rows = torch.stack(
        [eigenvalues(clouds.gaussian(40, variances, seed=s)).amax() for s in range(400)]
    )
    assert float(drawn.mean()) == pytest.approx(float(rows.mean()), rel=0.02)
    assert float(drawn.std()) == pytest.approx(float(rows.std()), rel=0.15)


def test_fewer_rows_than_features_leave_eigenvalues_at_zero() -> None:
    drawn = spectrum.gaussian_eigenvalues(torch.ones(50), 20, draws=2)
    assert drawn.shape == (2, 50)
    assert (drawn[:, 19:] < 1e-9).all()
    assert float(drawn.sum(1).mean()) == pytest.approx(50, rel=0.15)


def test_too_few_ranks_have_no_power_law() -> None:
    assert torch.isnan(spectrum.power_law(torch.tensor([3.0, 2.0, 1.0, 0.5])))


def test_counts_do_not_depend_on_order_and_scale() -> None:
    values = torch.rand(30, generator=torch.Generator().manual_seed(0))
    for count in (
        spectrum.participation_ratio,
        spectrum.effective_rank,
        spectrum.stable_rank,
        spectrum.power_law,
    ):
        assert float(count(values.flip(0) * 7)) == pytest.approx(float(count(values)))
