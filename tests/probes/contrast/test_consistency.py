"""CCS and its closed form: planted truth, a louder distractor, plain loops, and what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerscope.planted.contrasts import ContrastPairs, contrast_pairs
from layerscope.probes.contrast import consistency
from layerscope.probes.contrast.consistency import Found, closed, search


def everything(pairs: int) -> Tensor:
    return torch.ones(1, pairs, dtype=torch.bool)


def accuracy(found: Found, planted: ContrastPairs, bit: Tensor) -> float:
    hits = ((found.scores(planted.first - planted.second)[0] > 0) == bit).float().mean().item()
    return max(hits, 1 - hits)


def of(planted: ContrastPairs, **options: bool) -> Found:
    return closed(planted.first - planted.second, everything(len(planted.truth)), **options)


def test_the_closed_form_finds_planted_truth_under_a_strong_format() -> None:
    planted = contrast_pairs(truth=2.0, form=5.0)
    assert accuracy(of(planted), planted, planted.truth) > 0.99
    assert abs(of(planted).direction[0, 0]) > 0.95


def test_a_louder_distractor_is_found_instead_of_truth() -> None:
    planted = contrast_pairs(truth=2.0, form=5.0, distractor=3.0)
    found = of(planted)
    assert accuracy(found, planted, planted.truth) == pytest.approx(0.523, abs=0.02)
    assert accuracy(found, planted, planted.distractor) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("distractor", [0.0, 3.0])
def test_the_search_finds_what_the_closed_form_finds(distractor) -> None:
    planted = contrast_pairs(400, 16, distractor=distractor)
    fast = of(planted)
    slow = search(planted.first, planted.second, everything(400), start=fast.direction)
    wanted = planted.distractor if distractor else planted.truth
    assert accuracy(slow, planted, wanted) > 0.98
    # A thousand steps leave some of the random beginning in it.
    assert abs(slow.direction[0] @ fast.direction[0]) > 0.9
    assert slow.loss[0] < 0.2


def test_without_centring_only_the_format_is_found() -> None:
    planted = contrast_pairs(truth=2.0, form=5.0)
    raw = of(planted, centred=False)
    assert abs(raw.direction[0, 1]) > 0.95
    assert accuracy(raw, planted, planted.truth) < 0.55


def test_the_closed_form_is_the_first_singular_vector_of_numpy() -> None:
    planted = contrast_pairs(50, 20)
    train = torch.arange(50) % 3 != 0
    found = closed(planted.first - planted.second, train[None])
    rows = (planted.first - planted.second)[train].double().numpy()
    rows -= rows.mean(0)
    values, vectors = np.linalg.svd(rows)[1:]
    assert abs(found.direction[0].double().numpy() @ vectors[0]) == pytest.approx(1, abs=1e-6)
    share = values[0] ** 2 / (values**2).sum()
    assert found.share[0].item() == pytest.approx(share, rel=1e-6)
    assert found.direction[0].abs().max() == found.direction[0].max()


@pytest.mark.parametrize(("pairs", "width"), [(2, 5), (5, 2), (3, 1), (30, 40)])
def test_any_shape_will_do(pairs, width) -> None:
    difference = torch.randn(pairs, width, generator=torch.Generator().manual_seed(0))
    found = closed(difference, everything(pairs))
    assert found.direction.norm().item() == pytest.approx(1, abs=1e-5)


def test_sides_that_do_not_differ_have_no_direction() -> None:
    found = closed(torch.zeros(10, 4), everything(10))
    assert not found.direction.any()
    assert found.share.isnan().all()


def by_hand(first: Tensor, second: Tensor, begin: Tensor, epochs: int) -> tuple[Tensor, float]:
    """One restart as Burns et al. write it: a linear layer, two centred sides, AdamW."""
    probe = nn.Linear(first.shape[1], 1)
    with torch.no_grad():
        probe.weight.copy_(begin[None, :-1])
        probe.bias.copy_(begin[-1:])
    a, b = first - first.mean(0), second - second.mean(0)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01)
    for _ in range(epochs):
        optimiser.zero_grad()
        p, q = probe(a).sigmoid()[:, 0], probe(b).sigmoid()[:, 0]
        consistent = (p - (1 - q)).square().mean()
        informative = torch.min(p, q).square().mean()
        (consistent + informative).backward()
        optimiser.step()
    with torch.no_grad():
        p, q = probe(a).sigmoid()[:, 0], probe(b).sigmoid()[:, 0]
        loss = (p + q - 1).square().mean() + torch.min(p, q).square().mean()
    return probe.weight.detach()[0], loss.item()


def test_all_restarts_at_once_end_where_a_plain_loop_ends() -> None:
    planted = contrast_pairs(120, 6, truth=1.0, form=1.0)
    trains = torch.stack([torch.ones(120, dtype=torch.bool), torch.arange(120) < 80])
    found = search(planted.first, planted.second, trains, restarts=3, epochs=60, seed=4)
    begun = consistency._beginnings(2, planted.first, 3, None, 4)
    for fit, train in enumerate(trains):
        ends = [
            by_hand(planted.first[train], planted.second[train], begin, 60) for begin in begun[fit]
        ]
        weight, loss = min(ends, key=lambda end: end[1])
        assert found.loss[fit].item() == pytest.approx(loss, abs=1e-6)
        torch.testing.assert_close(found.direction[fit], weight / weight.norm(), atol=1e-4, rtol=0)
        centre = (planted.first - planted.second)[train].mean(0)
        torch.testing.assert_close(found.centre[fit], centre, atol=1e-5, rtol=0)


def test_the_sign_of_the_score_is_the_mean_probability_of_the_paper() -> None:
    planted = contrast_pairs(200, 8)
    found = search(planted.first, planted.second, everything(200), restarts=2, epochs=100)
    a = (planted.first - planted.first.mean(0)) @ found.direction[0]
    b = (planted.second - planted.second.mean(0)) @ found.direction[0]
    for bias in (-1.0, 0.0, 2.0):
        p, q = (a + bias).sigmoid(), (b + bias).sigmoid()
        mean = (p + 1 - q) / 2
        assert ((mean > 0.5) == (found.scores(planted.first - planted.second)[0] > 0)).all()


def test_no_global_generator_moves_and_a_seed_repeats() -> None:
    planted = contrast_pairs(60, 4)
    state = torch.random.get_rng_state()
    one, two = (
        search(planted.first, planted.second, everything(60), restarts=2, epochs=5, seed=3)
        for _ in range(2)
    )
    other = search(planted.first, planted.second, everything(60), restarts=2, epochs=5, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.direction, two.direction)
    assert not torch.equal(one.direction, other.direction)


def test_features_in_another_order_give_the_same_direction() -> None:
    planted = contrast_pairs(80, 12)
    mixed = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    plain = of(planted).direction[0][mixed]
    turned = closed((planted.first - planted.second)[:, mixed], everything(80)).direction[0]
    assert abs(plain @ turned) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_same_is_found() -> None:
    planted = contrast_pairs(200, 8)
    sides = planted.first, planted.second
    here = search(*sides, everything(200), epochs=100)
    there = search(*(side.cuda() for side in sides), everything(200).cuda(), epochs=100)
    torch.testing.assert_close(there.direction.cpu(), here.direction, atol=1e-3, rtol=0)
