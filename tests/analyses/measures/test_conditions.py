"""Cross-validated inner products of condition means: without bias, and a second computation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from layerscope.analyses.measures.conditions import condition_grams
from layerscope.analyses.measures.kernels import alignment, centred, gram
from layerscope.planted.condition_points import noisy_rows, simplex


def case(seed: int = 0) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    n = 60
    codes = generator.integers(3, size=n)
    groups = np.unique(generator.integers(17, size=n), return_inverse=True)[1]
    return torch.from_numpy(generator.standard_normal((n, 5))), codes, groups, groups % 4


def middle(x: torch.Tensor, codes: np.ndarray) -> torch.Tensor:
    return torch.stack([x[codes == c].mean(0) for c in range(3)]).mean(0)


def by_pairs(rows: torch.Tensor, codes: np.ndarray, groups: np.ndarray) -> torch.Tensor:
    """Mean product over all pairs of rows of different groups, by a loop."""
    found = torch.zeros(3, 3, dtype=torch.float64)
    for a, b in product(range(3), repeat=2):
        pairs = [
            float(rows[i] @ rows[j])
            for i, j in product(np.flatnonzero(codes == a), np.flatnonzero(codes == b))
            if groups[i] != groups[j]
        ]
        found[a, b] = sum(pairs) / len(pairs)
    return found


def test_products_are_means_over_pairs_of_rows_of_different_groups() -> None:
    x, codes, groups, blocks = case()
    found = condition_grams(x, codes, groups, 3, blocks)
    expected = by_pairs(x - middle(x, codes), codes, groups)
    assert torch.allclose(found.whole, expected, atol=1e-12)


def test_a_block_left_out_is_as_if_its_groups_were_not_there() -> None:
    x, codes, groups, blocks = case(1)
    found = condition_grams(x, codes, groups, 3, blocks)
    rows = x - middle(x, codes)
    for block in range(4):
        kept = np.flatnonzero(blocks != block)
        without = by_pairs(rows[kept], codes[kept], groups[kept])
        assert torch.allclose(found.without[block], without, atol=1e-12)


def test_noise_does_not_make_means_longer() -> None:
    points = simplex(6)
    truth = centred(gram(points))
    plain, free = [], []
    for seed in range(20):
        x, codes = noisy_rows(points, each=20, noise=1.5, width=30, seed=seed)
        groups = np.arange(len(x))
        means = torch.stack([x[codes == c].mean(0) for c in range(6)])
        plain.append(centred(gram(means)).trace())
        grams = condition_grams(x, codes.numpy(), groups, 6, groups % 10)
        free.append(centred(grams.whole).trace())
    error = torch.stack(free).std() / 20**0.5
    assert float(torch.stack(free).mean()) == pytest.approx(
        float(truth.trace()), abs=3 * float(error)
    )
    assert float(torch.stack(plain).mean()) > 2 * float(truth.trace())


def test_a_condition_of_one_group_has_no_length() -> None:
    x, codes, groups, blocks = case(2)
    codes = np.where(groups == 0, 2, np.minimum(codes, 1))
    found = condition_grams(x, codes, groups, 3, blocks)
    assert bool(found.whole[2, 2].isnan())


def test_alignment_does_not_depend_on_the_order_of_features_or_on_precision() -> None:
    x, codes, groups, blocks = case(3)
    y = torch.nn.functional.one_hot(torch.from_numpy(codes)).double()
    target = centred(condition_grams(y, codes, groups, 3, blocks).whole)

    def value(rows: torch.Tensor) -> float:
        return float(
            alignment(centred(condition_grams(rows, codes, groups, 3, blocks).whole), target)
        )

    order = torch.randperm(5, generator=torch.Generator().manual_seed(0))
    assert value(x[:, order]) == pytest.approx(value(x), abs=1e-12)
    assert value(x.float()) == pytest.approx(value(x), rel=1e-3)
