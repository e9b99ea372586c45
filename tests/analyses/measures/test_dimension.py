"""TwoNN on clouds of known dimension, by both estimators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from layerscope.analyses.measures import dimension
from layerscope.planted import clouds


@pytest.mark.parametrize(
    ("d", "expected", "within"),
    [(1, 1.01, 0.03), (2, 1.99, 0.06), (5, 4.79, 0.1), (20, 16.3, 0.4), (50, 33.3, 0.9)],
)
def test_cube_of_ten_thousand_rows(d: int, expected: float, within: float) -> None:
    found = dimension.two_nn(clouds.cube(10_000, d, max(d, 3)))
    assert found.mle == pytest.approx(expected, abs=within)
    assert found.fit == pytest.approx(found.mle, rel=0.04)


@pytest.mark.parametrize(("d", "expected", "within"), [(2, 2.03, 0.06), (10, 9.90, 0.2)])
def test_gaussian_of_ten_thousand_rows(d: int, expected: float, within: float) -> None:
    found = dimension.two_nn(clouds.gaussian(10_000, clouds.isotropic(d), seed=1))
    assert found.mle == pytest.approx(expected, abs=within)


def test_it_is_what_scikit_learn_and_the_paper_s_recipe_give() -> None:
    x = clouds.cube(700, 4, 9).numpy()
    near = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(x).kneighbors()[0]
    mu = np.sort(near[:, 1] / near[:, 0])
    found = dimension.two_nn(torch.from_numpy(x))
    assert found.mle == pytest.approx(699 / np.log(mu).sum())
    empirical = np.arange(1, 701) / 700
    kept = slice(0, int(0.9 * 700))
    slope = np.linalg.lstsq(np.log(mu[kept, None]), -np.log(1 - empirical[kept]), rcond=None)[0]
    assert found.fit == pytest.approx(float(slope[0]))


def test_duplicates_are_left_out_and_counted() -> None:
    x = clouds.cube(400, 3, 5)
    twice = torch.cat([x, x[:50], x[:10]])
    found = dimension.two_nn(twice)
    assert found.duplicates == 60
    assert found.mle == dimension.two_nn(x).mle
    assert found.kept.tolist() == list(range(400))
    assert dimension.distinct(twice.float()).tolist() == list(range(400))


def test_rows_that_are_merely_close_are_not_duplicates() -> None:
    x = torch.zeros(3, 4, dtype=torch.float64)
    x[1, 0], x[2, 1] = 1e-12, 1e-12
    assert dimension.distinct(x).tolist() == [0, 1, 2]


def test_too_few_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 rows, 2 of them different; TwoNN needs at least 3"):
        dimension.two_nn(torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0]]))


def test_decimation_sees_noise_on_a_curve() -> None:
    """A thin tube around a circle: three dimensions close by, one from afar."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(6000, generator=generator, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 1)
    x = circle + 0.001 * torch.randn(6000, 3, generator=generator, dtype=torch.float64)
    scan = dict(dimension.decimation(x))
    assert list(scan) == [3000, 1500, 750, 375]
    assert [len(parts) for parts in scan.values()] == [2, 4, 8, 16]
    means = [dimension.two_nn(x).mle, *(float(parts.mean()) for parts in scan.values())]
    assert means == sorted(means, reverse=True)
    assert means[0] > 1.8
    assert means[-1] < 1.3


def test_order_rotation_scale_and_precision_change_nothing() -> None:
    x = clouds.cube(800, 4, 12)
    value = dimension.two_nn(x).mle
    generator = torch.Generator().manual_seed(1)
    assert dimension.two_nn(x[torch.randperm(800, generator=generator)]).mle == pytest.approx(value)
    assert dimension.two_nn(x[:, torch.randperm(12, generator=generator)]).mle == pytest.approx(
        value
    )
    assert dimension.two_nn(5 + 3 * x @ clouds.rotation(12)).mle == pytest.approx(value)
    assert dimension.two_nn(x.float()).mle == pytest.approx(value, rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees() -> None:
    x = clouds.cube(2000, 5, 20)
    assert dimension.two_nn(x.float().cuda()).mle == pytest.approx(
        dimension.two_nn(x).mle, rel=1e-3
    )
