"""The mean cosine of two rows: its law, a loop over pairs, and what each dimension adds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from layerscope.analyses.measures.anisotropy import (
    contributions,
    isotropic_deviation,
    mean_cosine,
)
from layerscope.planted import clouds


def directions(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("square", "width"), [(100, 200), (50, 200), (400, 200)])
def test_shifted_gaussian(square: float, width: int) -> None:
    x = clouds.gaussian(3000, clouds.isotropic(width), mean=(square / width) ** 0.5)
    value = float(mean_cosine(directions(x).sum(0), len(x)))
    assert value == pytest.approx(square / (square + width), abs=0.01)


def test_it_is_the_mean_of_all_pairs() -> None:
    x = clouds.gaussian(60, clouds.power_law(7), mean=0.4)
    cosines = cosine_similarity(x.numpy())
    expected = cosines[~np.eye(60, dtype=bool)].mean()
    units = directions(x)
    assert float(mean_cosine(units.sum(0), 60)) == pytest.approx(expected)
    parts = contributions(units.sum(0), units.square().sum(0), 60)
    assert float(parts.sum()) == pytest.approx(expected)


def test_a_rogue_dimension_adds_most() -> None:
    x = clouds.gaussian(2000, clouds.isotropic(50))
    x[:, 31] += 20
    units = directions(x)
    parts = contributions(units.sum(0), units.square().sum(0), 2000)
    assert int(parts.argmax()) == 31
    assert float(parts[31] / parts.sum()) > 0.98


def test_spread_without_any_direction() -> None:
    values = [
        float(mean_cosine(directions(clouds.gaussian(40, clouds.isotropic(9), seed=s)).sum(0), 40))
        for s in range(1500)
    ]
    assert np.mean(values) == pytest.approx(0, abs=4 * isotropic_deviation(40, 9) / 1500**0.5)
    assert np.std(values) == pytest.approx(isotropic_deviation(40, 9), rel=0.1)
