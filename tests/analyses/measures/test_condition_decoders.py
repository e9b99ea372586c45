"""Decoders of dichotomies: golden values of CCGP, and scikit-learn as a second computation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge

from layerscope.analyses.measures.condition_decoders import accuracies, fold_grams, hit_sums
from layerscope.analyses.measures.dichotomies import balanced, ccgp_sets, named_dichotomies
from layerscope.planted.condition_points import cube, noisy_rows, simplex

SQUARE = named_dichotomies(["a", "b"], list(product("xy", "uv")))


def score(
    points: torch.Tensor,
    train: np.ndarray,
    test: np.ndarray,
    *,
    noise: float = 0.2,
    each: int = 400,
) -> torch.Tensor:
    x, codes = noisy_rows(points, each=each, noise=noise, width=20)
    return _score(x, codes.numpy(), train, test)


def _score(x: torch.Tensor, codes: np.ndarray, train: np.ndarray, test: np.ndarray) -> torch.Tensor:
    at = np.arange(len(x))
    grams = fold_grams(x, codes, at % 5, int(codes.max()) + 1)[0]
    hits = hit_sums(grams, codes, at * 0, train, test)
    return accuracies(hits[0], torch.from_numpy(np.bincount(codes)).double(), test)


def ccgp(points: torch.Tensor, number: int, rule: str, **more: float) -> float:
    one = SQUARE[number]
    train = ccgp_sets(one, rule, 4, most=100)  # type: ignore[arg-type]
    side = np.zeros(4, dtype=np.int8)
    side[list(one.positive)], side[list(one.negative)] = 1, -1
    test = np.where(train == 0, side, 0).astype(np.int8)
    return float(score(points, train, test, **more).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_ccgp_of_the_square_depends_on_the_split_rule(noise: float) -> None:
    for number in (0, 1):
        assert ccgp(cube(2), number, "paired", noise=noise) == pytest.approx(1, abs=0.02)
        assert ccgp(cube(2), number, "all", noise=noise) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_exclusive_or_generalises_the_wrong_way(noise: float) -> None:
    assert ccgp(cube(2), 2, "all", noise=noise) == pytest.approx(0, abs=0.02)


def test_nothing_generalises_on_a_simplex() -> None:
    found = [ccgp(simplex(4), n, rule, each=2000) for n in (0, 1) for rule in ("paired", "all")]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    exact = [ccgp(simplex(4), n, "all", noise=0.0) for n in range(3)]
    assert exact == pytest.approx([0.5] * 3, abs=1e-12)


def test_decoding_of_all_dichotomies() -> None:
    signs = balanced(4)
    assert score(simplex(4), signs, signs, noise=0.1).tolist() == pytest.approx([1, 1, 1])
    square = score(cube(2), signs, signs, noise=0.1)
    assert square.tolist() == pytest.approx([1, 1, 0.5], abs=0.03)  # the last is the exclusive or


def test_it_is_ridge_on_rows_of_equal_noise() -> None:
    """One decoder, by scikit-learn: whiten, then ridge on the means."""
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x, codes = noisy_rows(points, each=300, noise=2.5, width=12, seed=1)
    y = codes.numpy()
    at = np.arange(len(x))
    train, signs = at % 5 != 0, np.array([1, 1, -1, -1, 1, -1])
    means = np.stack([x.numpy()[train & (y == c)].mean(0) for c in range(6)])
    noise = ledoit_wolf((x.numpy() - means[y])[train], assume_centered=True)[0]
    noise += 1e-6 * np.square(x.numpy()[train] - means.mean(0)).mean() * np.eye(12)
    white = np.linalg.inv(np.linalg.cholesky(noise))
    ridge = Ridge(alpha=6).fit(means @ white.T, signs)  # as heavy as the noise of 6 means
    expected = ridge.predict(x.numpy()[~train] @ white.T)
    right = np.sign(expected) == signs[y[~train]]
    fold = [fold_grams(x, y, at % 5, 6)[0][0]]
    both = signs[None].astype(np.int8)
    hits = hit_sums(fold, y, at * 0, both, both)[0, :, 0]
    assert hits.tolist() == [float(right[y[~train] == c].sum()) for c in range(6)]


def test_several_training_sets_at_once_are_as_one_by_one() -> None:
    x, codes = noisy_rows(cube(3), each=30, noise=1.0, width=10)
    signs = balanced(8)[:6].copy()
    signs[:, :2] = 0
    signs[3, 4] = 0
    together = _score(x, codes.numpy(), signs, signs)
    alone = [float(_score(x, codes.numpy(), one[None], one[None])) for one in signs]
    assert together.tolist() == pytest.approx(alone, abs=1e-12)


def test_order_of_features_and_precision_change_nothing() -> None:
    x, codes = noisy_rows(cube(3), each=40, noise=0.7, width=10)
    signs = balanced(8)
    base = _score(x, codes.numpy(), signs, signs)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(_score(x[:, order], codes.numpy(), signs, signs), base, atol=1e-12)
    assert torch.allclose(_score(x.float(), codes.numpy(), signs, signs), base, rtol=1e-3)


def test_constant_features_and_more_features_than_rows_decode_nothing_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 300, generator=generator, dtype=torch.float64)
    x[:, :50] = 2.0
    signs = balanced(4)
    found = _score(x, np.arange(80) % 4, signs, signs)
    assert found.tolist() == pytest.approx([0.5] * 3, abs=0.2)
    nothing = _score(torch.ones(80, 5), np.arange(80) % 4, signs, signs)
    assert nothing.tolist() == [0.5] * 3
