"""Activation functions in use, against their definitions row by row."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae import activations


def pre() -> torch.Tensor:
    return torch.randn(4, 5, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("k", [1, 3, 12])
def test_topk_keeps_the_k_largest_where_positive(k: int) -> None:
    codes = activations.topk(pre(), k)
    for row, found in zip(pre().view(-1, 12), codes.view(-1, 12), strict=True):
        kept = set(row.argsort(descending=True)[:k].tolist())
        wanted = [max(value, 0.0) if i in kept else 0.0 for i, value in enumerate(row.tolist())]
        assert found.tolist() == wanted


def test_jumprelu_is_strict() -> None:
    threshold = torch.tensor([0.5, 1.0])
    codes = activations.jumprelu(torch.tensor([[0.5, 1.5], [0.6, 1.0]]), threshold)
    assert codes.tolist() == [[0, 1.5], [pytest.approx(0.6), 0]]


def test_gated_asks_the_gate_whether_and_the_magnitude_how_much() -> None:
    b_enc, r_mag, b_mag = torch.tensor([1.0]), torch.tensor([2.0]).log(), torch.tensor([0.5])
    codes = activations.gated(torch.tensor([[3.0], [-0.1], [0.2]]), b_enc, r_mag, b_mag)
    # 2 (3 - 1) + 0.5; a closed gate; 2 (0.2 - 1) + 0.5 < 0.
    assert codes.flatten().tolist() == [4.5, 0, 0]


def test_afa_of_a_leading_shape() -> None:
    norms = torch.rand(12, generator=torch.Generator().manual_seed(1)) + 0.5
    target = 3 * torch.rand(4, 5, generator=torch.Generator().manual_seed(2))
    codes = activations.afa(pre(), norms, target)
    flat = activations.afa(pre().view(-1, 12), norms, target.flatten())
    assert torch.equal(codes.view(-1, 12), flat)
    for row, wanted, found in zip(
        pre().view(-1, 12), target.flatten(), codes.view(-1, 12), strict=True
    ):
        size = (row.relu() * norms).double()
        order = size.argsort(descending=True)
        gap = [abs(size[order[:m]].norm() - wanted.double()) for m in range(1, 12)]
        kept = order[: gap.index(min(gap)) + 1]
        assert torch.equal(found[kept], row.relu()[kept])
        assert int((found > 0).sum()) == int((size[kept] > 0).sum())
