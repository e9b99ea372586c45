"""Nearest centroids on deltas: the known accuracies, numpy loops, and what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.planted.contrasts import centroid_accuracy, trace_deltas
from layerscope.probes.contrast import centroids
from layerscope.probes.contrast.centroids import balanced, distances


def accuracy(gap: float, **options) -> float:
    hits = []
    for seed in range(3):
        deltas, correct = trace_deltas(2000, gap=gap, seed=seed)
        score = distances(deltas, correct.numpy(), **options).score()
        hits.append(((score > 0) == correct).float().mean().item())
    return float(np.mean(hits))


@pytest.mark.parametrize(("gap", "expected"), [(0.5, 0.723), (1.0, 0.908)])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_planted_traces_are_told_apart_as_often_as_theory_says(gap, expected, metric) -> None:
    found = accuracy(gap, metric=metric)
    assert found == pytest.approx(expected, abs=0.02)
    assert found == pytest.approx(centroid_accuracy(gap, 8, 64, 2000), abs=0.015)


def test_random_labels_are_a_coin() -> None:
    assert accuracy(0.0) == pytest.approx(0.5, abs=0.015)


def draw() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    deltas, correct = trace_deltas(60, 3, 5, gap=2.0, seed=1)
    deltas = deltas * torch.tensor([1.0, 10.0, 0.1])[:, None]
    return deltas, correct.numpy(), np.random.default_rng(0).integers(0, 9, 60)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("normalise", [False, True])
def test_loops_over_problems_in_numpy_agree(metric, normalise) -> None:
    deltas, correct, groups = draw()
    used = np.random.default_rng(1).random(60) < 0.8
    found = distances(deltas, correct, groups, metric=metric, normalise=normalise, experience=used)
    for trace in range(60):
        others = used & (groups != groups[trace])
        for layer in range(3):
            x = deltas[:, layer].double().numpy()
            x = x / np.sqrt((x**2).mean()) if normalise else x
            for side, got in ((correct, found.right), (~correct, found.wrong)):
                v = x[others & side].mean(0)
                far = np.linalg.norm(x[trace] - v)
                if metric == "cosine":
                    far = 1 - x[trace] @ v / np.linalg.norm(x[trace]) / np.linalg.norm(v)
                assert got[trace, layer].item() == pytest.approx(far, rel=1e-6)


def test_block_sizes_do_not_matter(monkeypatch) -> None:
    deltas, correct, groups = draw()
    whole = distances(deltas, correct, groups)
    for size in (5, 64, 150):
        monkeypatch.setattr(centroids, "_BLOCK", size)
        part = distances(deltas, correct, groups)
        torch.testing.assert_close(part.right, whole.right, rtol=1e-12, atol=0)
        torch.testing.assert_close(part.wrong, whole.wrong, rtol=1e-12, atol=0)


def test_the_own_problem_has_no_say() -> None:
    deltas, correct, groups = draw()
    before = distances(deltas, correct, groups)
    changed = np.where(groups == 4, ~correct, correct)
    after = distances(deltas, changed, groups)
    own = torch.from_numpy(groups == 4)
    assert torch.equal(before.right[own], after.right[own])
    assert not torch.equal(before.right[~own], after.right[~own])


def test_features_in_another_order_float64_and_lists_of_layers_give_the_same() -> None:
    deltas, correct, groups = draw()
    plain = distances(deltas, correct, groups).score()
    for same in (deltas[..., [4, 2, 0, 1, 3]], deltas.double(), list(deltas.unbind(1))):
        torch.testing.assert_close(
            distances(same, correct, groups).score(), plain, rtol=1e-6, atol=1e-6
        )


def test_a_layer_with_large_states_leads_unless_normalised() -> None:
    deltas, correct, groups = draw()
    raw, even = (distances(deltas, correct, groups, normalise=n) for n in (False, True))
    alone = distances(deltas[:, 1:2], correct, groups).score()
    assert np.corrcoef(raw.score(), alone)[0, 1] > 0.98
    assert np.corrcoef(even.score(), alone)[0, 1] < 0.9
    only = raw.score([0, 1, 0])
    torch.testing.assert_close(only, alone)


def test_closeness_ranks_by_the_correct_centroid_alone() -> None:
    deltas, correct, groups = draw()
    found = distances(deltas, correct, groups)
    torch.testing.assert_close(found.score(by="closeness"), -found.right.mean(1))
    with pytest.raises(ValueError, match="weights must be 3 numbers from 0"):
        found.score([1.0, 2.0])


def test_balanced_experience_has_as_many_of_both() -> None:
    correct = np.arange(100) < 80
    used = balanced(correct, seed=3)
    assert (used & correct).sum() == (used & ~correct).sum() == 20
    assert (balanced(correct, seed=3) == used).all()


def test_one_problem_that_holds_a_side_is_refused() -> None:
    deltas, correct, groups = draw()
    with pytest.raises(ValueError, match="wrong traces belong to one problem"):
        distances(deltas, np.where(groups == 2, correct, True), groups)
    with pytest.raises(ValueError, match="all 0 correct traces"):
        distances(deltas, np.zeros(60, bool), groups)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_distances_are_the_same() -> None:
    deltas, correct, groups = draw()
    here, there = distances(deltas, correct, groups), distances(deltas.cuda(), correct, groups)
    torch.testing.assert_close(there.right.cpu(), here.right, rtol=1e-3, atol=1e-6)
