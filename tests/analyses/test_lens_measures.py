"""Distances between next-token distributions, against plain loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from layerscope.analyses.lenses.lens_measures import MEASURES, Final, chunked, kl, rank


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 31, generator=generator), 2 * torch.randn(7, 31, generator=generator)


def test_every_measure_against_plain_loops(logits) -> None:
    final, other = logits
    following = torch.tensor([3, 0, 30, 7, 7, 12, -1])
    found = Final.of(final, following, 5).compare(other)
    assert set(found) == set(MEASURES)
    for i in range(7):
        p, q = final[i].softmax(-1), other[i].softmax(-1)
        forward = F.kl_div(q.log(), p, reduction="sum")
        assert found["kl_final_lens"][i] == pytest.approx(float(forward), rel=1e-5)
        backward = sum(float(b) * math.log(float(b) / float(a)) for a, b in zip(p, q, strict=True))
        assert found["kl_lens_final"][i] == pytest.approx(backward, rel=1e-4)
        ours, theirs = (
            sorted(range(31), key=lambda v, x=x: -x[v])[:5] for x in (final[i], other[i])
        )
        assert found["agreement"][i] == float(ours[0] == theirs[0])
        assert found["overlap"][i] == pytest.approx(len(set(ours) & set(theirs)) / 5)
        if following[i] >= 0:
            order = sorted(range(31), key=lambda v: -other[i, v])
            assert found["rank"][i] == order.index(int(following[i]))
            assert found["surprisal"][i] == pytest.approx(
                -math.log(float(q[following[i]])), rel=1e-5
            )
    assert found["rank"][6].isnan()
    assert found["surprisal"][6].isnan()


def test_the_two_directions_of_kl_are_not_the_same() -> None:
    sure, unsure = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    found = Final.of(sure, torch.tensor([0]), 1).compare(unsure)
    # KL(final || lens) = .9 ln(.9/.5) + .1 ln(.1/.5); KL(lens || final) = .5 ln(.5/.9) + .5 ln(.5/.1)
    assert found["kl_final_lens"].item() == pytest.approx(0.368064, abs=1e-6)
    assert found["kl_lens_final"].item() == pytest.approx(0.510826, abs=1e-6)


def test_ties_do_not_count_as_greater() -> None:
    flat = torch.zeros(1, 9)
    assert rank(flat, torch.tensor([4])).item() == 0
    flat[0, :3] = 1.0
    assert rank(flat, torch.tensor([4])).item() == 3
    assert rank(flat, torch.tensor([1])).item() == 0


def test_excluded_tokens_do_not_spoil_the_sum() -> None:
    p = torch.tensor([[0.0, 0.0, -torch.inf]]).log_softmax(-1)
    q = torch.tensor([[0.0, 1.0, -torch.inf]]).log_softmax(-1)
    assert kl(p, p).item() == 0
    assert torch.isfinite(kl(p, q)).all()
    assert kl(q.new_zeros(1, 3).log_softmax(-1), p).item() == math.inf


def test_half_precision_is_measured_in_single(logits) -> None:
    final, other = (x.bfloat16() for x in logits)
    found = Final.of(final, torch.zeros(7, dtype=torch.long), 5).compare(other)
    exact = Final.of(final.double(), torch.zeros(7, dtype=torch.long), 5).compare(other.double())
    assert found["kl_final_lens"].dtype == torch.float32
    torch.testing.assert_close(
        found["kl_final_lens"].double(), exact["kl_final_lens"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("budget", [1, 3000, 10**9])
def test_chunks_do_not_change_the_result(budget: int) -> None:
    states = torch.randn(11, 4, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(4, 23, bias=False)
    seen = list(chunked(head, states, budget))
    assert torch.allclose(torch.cat([x for _, x in seen]), head(states), atol=1e-6)
    covered = [i for rows, _ in seen for i in range(*rows.indices(11))]
    assert covered == list(range(11))
    assert len(seen) == {1: 11, 3000: 3, 10**9: 1}[budget]
