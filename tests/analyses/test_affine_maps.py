"""Least squares from sums of products, against plain solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.lenses.affine_maps import AffineFit


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 90, 6, generator=generator, dtype=torch.float64)
    x[1] = 1e3 + 10 * x[1]  # far from the origin
    y = torch.randn(3, 90, 4, generator=generator, dtype=torch.float64)
    y[0] = x[0] @ torch.randn(6, 4, generator=generator, dtype=torch.float64) - 7
    return x, y


def test_equals_plain_least_squares(data) -> None:
    x, y = data
    maps = AffineFit((2, 6), (3, 4)).update(x, y).result(ridge=0)
    for source in range(2):
        for target in range(3):
            design = np.column_stack([x[source], np.ones(90)])
            exact = np.linalg.lstsq(design, y[target].numpy(), rcond=None)[0]
            np.testing.assert_allclose(maps.weight[source, target].T, exact[:-1], atol=1e-8)
            np.testing.assert_allclose(maps(x[source], source)[target], design @ exact, atol=1e-8)


def test_ridge_is_scikit_learns(data) -> None:
    from sklearn.linear_model import Ridge

    x, y = data
    maps = AffineFit((2, 6), (3, 4)).update(x, y).result(ridge=0.1)
    for source in range(2):
        penalty = 0.1 * 90 * float(x[source].var(0, correction=0).mean())
        theirs = Ridge(alpha=penalty).fit(x[source], y[1])
        np.testing.assert_allclose(maps.weight[source, 1], theirs.coef_, atol=1e-9)
        np.testing.assert_allclose(maps.bias[source, 1], theirs.intercept_, rtol=1e-6)


def test_parts_add_up_and_scale_does_not_matter(data) -> None:
    x, y = data
    whole = AffineFit((2, 6), (3, 4)).update(x, y).result()
    fit = AffineFit((2, 6), (3, 4))
    for start in range(0, 90, 17):
        fit.update(x[:, start : start + 17], y[:, start : start + 17])
    parts = fit.result()
    torch.testing.assert_close(parts.weight, whole.weight)
    torch.testing.assert_close(parts.bias, whole.bias)
    scaled = AffineFit((2, 6), (3, 4)).update(8 * x, y).result()
    torch.testing.assert_close(8 * scaled.weight, whole.weight)


def test_features_that_depend_on_each_other_need_ridge(data) -> None:
    x, y = data
    x = torch.cat([x, x[..., :1]], -1)
    fit = AffineFit((2, 7), (3, 4)).update(x, y)
    with pytest.raises(ValueError, match="source layer 0 depend on each other in 90 rows"):
        fit.result(ridge=0)
    assert torch.isfinite(fit.result(ridge=1e-6).weight).all()


def test_a_layer_that_never_varies_maps_to_the_mean(data) -> None:
    _, y = data
    maps = AffineFit((1, 5), (3, 4)).update(torch.ones(1, 90, 5), y).result()
    torch.testing.assert_close(maps(torch.ones(2, 5), 0)[:, 0], y.mean(1))


def test_bad_rows_are_named(data) -> None:
    x, y = data
    fit = AffineFit((2, 6), (3, 4))
    with pytest.raises(ValueError, match="0 rows are too few"):
        fit.result()
    with pytest.raises(ValueError, match=r"takes \[layers, rows, width\] of \[2, 6\] and \[3, 4\]"):
        fit.update(x[:1], y)
    x[1, 5, 2] = torch.nan
    with pytest.raises(ValueError, match="source layer 1 is NaN or infinite at row 5"):
        fit.update(x, y)
