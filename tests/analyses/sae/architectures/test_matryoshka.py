"""Matryoshka: what its levels add up to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka


def rows() -> torch.Tensor:
    return 2 * torch.randn(1, 50, 6, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sparse", [True, False])
def test_one_level_is_batchtopk(sparse: bool, make_weights: Any, make_moment: Any) -> None:
    dead = torch.zeros(3, 24, dtype=torch.bool)
    dead[:, :4] = True
    found = []
    for architecture in (
        Matryoshka(k=(1, 3, 7), widths=(24,), sparse=sparse),
        BatchTopK(k=(1, 3, 7), sparse=sparse),
    ):
        weights, moment = make_weights(), make_moment(dead)
        loss = architecture.loss(weights, rows(), rows(), moment)
        loss.total.sum().backward()
        found.append((loss, weights, moment))
    (ours, ours_weights, ours_moment), (theirs, their_weights, their_moment) = found
    torch.testing.assert_close(ours.total, theirs.total, rtol=1e-6, atol=0)
    assert torch.equal(ours_moment.threshold, their_moment.threshold)
    for name, tensor in ours_weights.named().items():
        torch.testing.assert_close(
            tensor.grad, their_weights.named()[name].grad, rtol=1e-5, atol=1e-5, msg=name
        )


def test_two_levels_are_two_decodes(make_weights: Any, make_moment: Any) -> None:
    weights, moment = make_weights(group=1), make_moment(1, 24)
    loss = Matryoshka(k=(3,), widths=(10, 24)).loss(weights, rows(), rows(), moment)
    first, second = loss.parts["first 10 latents"], loss.parts["first 24 latents"]
    assert loss.total.item() == pytest.approx((first + second).item())
    assert loss.error.item() == second.item()
    sae = Matryoshka(k=(3,)).export(weights, 0, moment)
    # With the threshold of this very batch the exported codes are those of the training.
    pre = sae.pre(rows()[0])
    codes = pre * (pre >= pre.flatten().sort(descending=True).values[149])
    for level, term in ((10, first), (24, second)):
        written = codes[:, :level] @ sae.W_dec[:level] + sae.b_dec
        assert (rows()[0] - written).square().sum(-1).mean().item() == pytest.approx(
            term.item(), rel=1e-5
        )


def test_weights_of_the_levels_multiply_them_once(make_weights: Any, make_moment: Any) -> None:
    # dictionary_learning weighs by 1 / levels and averages over levels as well.
    weights, moment = make_weights(group=1), make_moment(1, 24)
    plain = Matryoshka(k=(3,), widths=(10, 24)).loss(weights, rows(), rows(), moment)
    halves = Matryoshka(k=(3,), widths=(10, 24), level_weights=(0.5, 0.5))
    halved = halves.loss(weights, rows(), rows(), moment)
    assert halved.total.item() == pytest.approx(plain.total.item() / 2)


def test_levels_by_default_double_up_to_the_whole_width() -> None:
    assert Matryoshka().levels(6144) == (384, 768, 1536, 3072, 6144)
    assert Matryoshka().levels(4) == (1, 2, 4)


def test_widths_that_make_no_sense_are_refused(make_weights: Any, make_moment: Any) -> None:
    with pytest.raises(ValueError, match=r"widths=\(10, 5\) must increase"):
        Matryoshka(widths=(10, 5))
    with pytest.raises(ValueError, match="2 level_weights for 3 levels"):
        Matryoshka(widths=(1, 2, 3), level_weights=(1.0, 1.0))
    with pytest.raises(ValueError, match="end at 20, the dictionary has 24 latents"):
        Matryoshka(k=(3,), widths=(10, 20)).loss(
            make_weights(group=1), rows(), rows(), make_moment(1, 24)
        )
