"""Units of the training: what they make of rows, and dimensions that do not vary."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from layerscope.analyses.sae.rows.median import geometric_median
from layerscope.analyses.sae.rows.scaling import (
    KINDS,
    Affine,
    dead_dimensions,
    fit,
    identity,
    side_by_side,
)


def rows(count: int = 4000, width: int = 12, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=random)
    return torch.randn(count, width, generator=random) @ mixed + 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_undone(kind: str) -> None:
    x = rows()
    units = fit(kind, x)
    torch.testing.assert_close(units.inverse(units(x)), x, rtol=1e-4, atol=1e-4)
    assert units.centre.dtype == units.scale.dtype == torch.float32


def test_scale_makes_the_mean_norm_the_root_of_the_width() -> None:
    x = rows()
    scaled = fit("scale", x)(x)
    assert scaled.norm(dim=1).mean().item() == pytest.approx(12**0.5, rel=1e-5)
    torch.testing.assert_close(fit("scale", x).centre, geometric_median(x), rtol=1e-5, atol=1e-4)


def test_per_dimension_is_scikit_learn_s_scaler_but_for_the_centre() -> None:
    x = rows()
    factors = 1 / StandardScaler().fit(x.numpy()).scale_
    np.testing.assert_allclose(fit("per_dimension", x).scale.numpy(), factors, rtol=1e-5)


def test_whitening_makes_the_covariance_the_unit_matrix_up_to_the_ridge() -> None:
    x = rows().double()
    units = fit("whiten", x)
    values = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))
    wanted = values / (values + 1e-3 * values.mean())
    found = np.linalg.eigvalsh(np.cov(units(x).numpy().T, bias=True))
    np.testing.assert_allclose(np.sort(found), np.sort(wanted), rtol=1e-4)
    np.testing.assert_allclose(units(x).mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["scale", "per_dimension", "whiten"])
def test_units_of_the_data_do_not_matter(kind: str) -> None:
    """A thousand times larger rows give the same scaled rows: no constant hides in the formulas."""
    x = rows().double()
    torch.testing.assert_close(
        fit(kind, x * 1000)(x * 1000).abs(), fit(kind, x)(x).abs(), rtol=1e-3, atol=1e-3
    )


def test_none_only_centres() -> None:
    x = rows()
    torch.testing.assert_close(fit("none", x)(x), x - geometric_median(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["per_dimension", "whiten"])
def test_dead_dimensions_are_named_and_divide_by_nothing(kind: str) -> None:
    x = rows()
    x[:, 3] = 7.0
    x[:, 9] = 0.0
    with pytest.warns(UserWarning, match=r"mid: 2 dimensions do not vary \(3, 9\)"):
        units = fit(kind, x, site="mid")
    scaled = units(x)
    assert scaled.isfinite().all()
    if kind == "per_dimension":  # whitening turns the dimensions
        assert scaled[:, [3, 9]].abs().max() < 1e-3
    torch.testing.assert_close(units.inverse(scaled), x, rtol=1e-3, atol=1e-2)
    assert dead_dimensions(x) == [3, 9]


def test_what_varies_a_little_is_not_dead() -> None:
    x = rows()
    x[:, 3] *= 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit("per_dimension", x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", [torch.full((50, 4), 3.0), torch.zeros(50, 4), torch.randn(1, 4)])
def test_constant_rows_are_refused(kind: str, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"mid is constant: its \d+ rows differ by"):
        fit(kind, x, site="mid")


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling 'norm'; there are none, scale, whiten"):
        fit("norm", rows())


def test_side_by_side_maps_each_part_by_its_own() -> None:
    x, y = rows(width=5), rows(width=7, seed=1)
    pairs = [("scale", "none"), ("per_dimension", "scale"), ("whiten", "per_dimension")]
    for first, second in pairs:
        a, b = fit(first, x), fit(second, y)
        both = side_by_side([a, b])(torch.cat([x, y], 1))
        torch.testing.assert_close(both, torch.cat([a(x), b(y)], 1), rtol=1e-4, atol=1e-4)


def test_identity_changes_nothing() -> None:
    x = rows()
    assert torch.equal(identity(12)(x), x)
    assert torch.equal(identity(12).inverse(x), x)
    assert identity(12).one_factor
    assert not Affine(torch.zeros(2), torch.ones(2)).one_factor
