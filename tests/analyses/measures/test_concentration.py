"""How few entries hold 90 % of a row: the golden counts, and the law for Gaussian logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.measures.concentration import (
    cover,
    effective_entries,
    gaussian_share,
)
from layerscope.planted.activity import gaussian_softmax, geometric


@pytest.mark.parametrize(("keys", "k"), [(128, 116), (512, 461), (10, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_uniform_attention_needs_nine_tenths_of_the_keys(
    keys: int, k: int, dtype: torch.dtype
) -> None:
    p = torch.full((3, keys), 1 / keys, dtype=dtype)
    assert cover(p, [0.9])[:, 0].tolist() == [k] * 3


def test_one_key_is_one_key_and_nothing_is_nothing() -> None:
    assert cover(torch.eye(7), [0.9, 0.99]).tolist() == [[1, 1]] * 7
    assert cover(torch.zeros(2, 7), [0.9]).tolist() == [[0], [0]]


@pytest.mark.parametrize(("ratio", "k"), [(0.5, 4), (0.9, 22)])
def test_geometric_attention(ratio: float, k: int) -> None:
    p, truth = geometric(512, ratio)
    assert truth == k
    assert cover(p, [0.9]).item() == k
    assert cover(p.float()[torch.randperm(512)], [0.9]).item() == k


@pytest.mark.parametrize(("spread", "predicted", "measured"), [(0.5, 401, 402), (1, 313, 314), (2, 121, 129), (4, 1.7, 12)])  # fmt: skip
def test_gaussian_logits_follow_the_lorenz_curve_of_the_log_normal(
    spread: float, predicted: float, measured: float
) -> None:
    """At a large spread 512 keys are too few for the law; the second number is theirs."""
    k = cover(gaussian_softmax(2000, 512, spread), [0.9]).float().median().item()
    assert 512 * gaussian_share(spread) == pytest.approx(predicted, rel=0.005, abs=0.05)
    assert k == pytest.approx(measured, abs=3)
    if spread == 1:
        assert k == pytest.approx(313, abs=5)


def test_the_count_is_that_of_a_loop() -> None:
    p = gaussian_softmax(50, 40, 2.0, seed=3).double().numpy()
    for row, found in zip(p, cover(torch.from_numpy(p), [0.5, 0.9, 0.99]), strict=True):
        for share, k in zip((0.5, 0.9, 0.99), found.tolist(), strict=True):
            held, count = 0.0, 0
            for weight in sorted(row, reverse=True):
                if held >= share:
                    break
                held, count = held + weight, count + 1
            assert k == count


def test_effective_entries_of_equal_ones() -> None:
    p = torch.zeros(2, 8)
    p[0, :5], p[1, 3] = 0.2, 1
    assert effective_entries(p).tolist() == pytest.approx([5, 1])


def test_order_of_entries_and_precision_do_not_matter() -> None:
    p = gaussian_softmax(400, 128, 1.0).double()
    order = torch.from_numpy(np.random.default_rng(0).permutation(128))
    assert torch.equal(cover(p, [0.9]), cover(p[:, order], [0.9]))
    assert (cover(p, [0.9]) - cover(p.float(), [0.9])).abs().max() <= 1
    torch.testing.assert_close(
        effective_entries(p), effective_entries(p[:, order].float()).double(), rtol=1e-5, atol=0
    )
