"""Canonical correlations: against scikit-learn, their null, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from layerscope.analyses.measures import cca
from layerscope.planted import clouds


def isotropic(rows: int, width: int, seed: int) -> Tensor:
    return clouds.gaussian(rows, clouds.isotropic(width), seed=seed)


def between(x: Tensor, y: Tensor, share: float = 1.0) -> cca.Correlations:
    return cca.correlations(cca.basis(x, share=share), cca.basis(y, share=share))


def test_an_invertible_map_loses_nothing() -> None:
    x = isotropic(300, 10, 0)
    found = between(x, x @ isotropic(10, 10, 1) + 4)
    assert float(found.values.min()) == pytest.approx(1, abs=1e-6)
    assert found.mean == pytest.approx(1, abs=1e-6)
    assert found.weighted == pytest.approx(1, abs=1e-6)


def test_correlations_are_those_of_scikit_learn() -> None:
    x = isotropic(200, 4, 0)
    y = torch.cat([clouds.blurred(x[:, :2], 0.7, seed=1), isotropic(200, 3, 2)], 1)
    model = CCA(n_components=4, max_iter=5000, tol=1e-12).fit(x.numpy(), y.numpy())
    a, b = model.transform(x.numpy(), y.numpy())
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(between(x, y).values.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("n", "p", "q"), [(500, 50, 30), (1000, 400, 400)])
def test_independent_features_correlate_where_rows_are_few(n: int, p: int, q: int) -> None:
    found = between(isotropic(n, p, 5), isotropic(n, q, 6))
    assert float(found.values.square().mean()) == pytest.approx(max(p, q) / (n - 1), rel=0.1)
    mean, deviation = cca.chance(n, p, q)
    assert found.mean == pytest.approx(mean, abs=4 * deviation)
    if p == 400:
        assert mean == pytest.approx(0.56, abs=0.01)


def test_the_drawn_null_is_that_of_permuted_rows() -> None:
    x, y = (cca.basis(clouds.gaussian(120, clouds.power_law(p), seed=p)) for p in (20, 8))
    generator = torch.Generator().manual_seed(0)
    drawn = [
        cca.correlations(
            x, cca.Basis(y.scores[torch.randperm(120, generator=generator)], y.features)
        )
        for _ in range(300)
    ]
    means = [one.mean for one in drawn]
    mean, deviation = cca.chance(120, 20, 8, draws=300)
    assert np.mean(means) == pytest.approx(mean, abs=0.004)
    assert np.std(means) == pytest.approx(deviation, rel=0.2)
    # PWCCA has the same null mean: under it, weights and correlations have nothing in common.
    assert np.mean([one.weighted for one in drawn]) == pytest.approx(mean, abs=0.015)


def test_more_directions_than_rows_are_always_one() -> None:
    assert cca.chance(30, 40, 5) == (1.0, 0.0)
    found = between(isotropic(30, 40, 0), isotropic(30, 5, 1))
    assert found.mean == pytest.approx(1)


def test_svcca_keeps_the_components_that_hold_the_share() -> None:
    variances = torch.tensor([100.0, 50.0, 0.1, 0.1])
    x = clouds.gaussian(2000, variances)
    assert cca.basis(x, share=0.99).directions == 2
    assert cca.basis(x).directions == 4
    twice = torch.cat([x, x[:, :1]], 1)
    assert cca.basis(twice).directions == 4
    assert cca.basis(torch.ones(9, 3)).directions == 0
    assert np.isnan(between(torch.ones(9, 3), torch.rand(9, 3)).mean)


def test_pwcca_weights_are_those_of_the_paper() -> None:
    x, y = clouds.gaussian(80, clouds.power_law(5), seed=1), isotropic(80, 3, 2)
    found = between(x, y)
    centred = x - x.mean(0)
    alpha = np.array(
        [sum(abs(float(found.left[:, i] @ centred[:, j])) for j in range(5)) for i in range(3)]
    )
    np.testing.assert_allclose(found.weights.numpy(), alpha / alpha.sum())
    assert found.weighted == pytest.approx(float((alpha / alpha.sum()) @ found.values.numpy()))


def test_influence_foretells_what_leaving_rows_out_does() -> None:
    x = isotropic(3000, 5, 0)
    y = clouds.blurred(x, 0.7, seed=1)
    found = between(x, y)
    influence = found.influence(torch.full((5,), 0.2, dtype=torch.float64))
    assert float(influence.sum()) == pytest.approx(0, abs=1e-8)
    changes, foretold = [], []
    for part in range(20):
        kept = torch.ones(3000, dtype=torch.bool)
        kept[150 * part : 150 * (part + 1)] = False
        changes.append(between(x[kept], y[kept]).mean - found.mean)
        foretold.append(float(influence[kept].mean()))
    assert np.corrcoef(changes, foretold)[0, 1] > 0.99
    assert np.std(changes) == pytest.approx(np.std(foretold), rel=0.05)
