"""Directions of a dictionary, among themselves and beside planted ones."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.measuring.detection import Detection
from layerscope.analyses.sae.measuring.dictionary import geometry, matched, paired_cosines


def drawn(count: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_directions_against_all_cosines() -> None:
    x = drawn(150, 6)
    unit = x / x.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-2)
    for block in (64, 150, 1024):
        found = geometry(x, block=block)
        torch.testing.assert_close(found.nearest, cosines.amax(1))
        assert torch.equal(found.nearest_index, cosines.argmax(1))
        cosines.fill_diagonal_(0)
        torch.testing.assert_close(found.coherence, cosines.abs().amax(1))
        cosines.fill_diagonal_(-2)


def test_opposite_and_empty_directions() -> None:
    found = geometry(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]))
    assert found.nearest.tolist() == [0.0, 0.0, 0.0]
    assert found.coherence.tolist() == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="needs at least two"):
        geometry(torch.ones(1, 3))


def test_encoder_and_decoder() -> None:
    encoder = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    decoder = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    torch.testing.assert_close(paired_cosines(encoder, decoder), torch.tensor([1.0, 0.5**0.5, 0.0]))


def test_a_permuted_dictionary_is_found_again() -> None:
    truth = drawn(20, 8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    signs = torch.where(torch.arange(20) % 2 == 0, 1.0, -1.0)
    found = matched(3 * truth[order] * signs[:, None], truth)
    assert found.mcc == pytest.approx(1.0, abs=1e-6)
    assert found.mmcs == pytest.approx(1.0, abs=1e-6)
    assert found.uniqueness == 1.0
    assert found.latent.tolist() == torch.argsort(order).tolist()
    signed = matched(truth[order] * signs[:, None], truth, signed=True)
    assert signed.mcc < 0.8


def test_matching_is_the_best_of_all() -> None:
    directions, truth = drawn(5, 3), drawn(5, 3, seed=1)
    a = directions / directions.norm(dim=1, keepdim=True)
    b = truth / truth.norm(dim=1, keepdim=True)
    cosines = (a @ b.T).abs().numpy()
    best = max(np.mean([cosines[i, j] for j, i in enumerate(p)]) for p in permutations(range(5)))
    found = matched(directions, truth)
    assert found.mcc == pytest.approx(best, abs=1e-6)
    assert found.mmcs == pytest.approx(cosines.max(0).mean(), abs=1e-6)
    assert found.uniqueness == len(set(cosines.argmax(1).tolist())) / 5


def test_fewer_and_more_latents_than_features() -> None:
    truth = torch.eye(4)
    few = matched(torch.eye(4)[:2], truth)
    assert few.mcc == 1.0
    assert few.mmcs == 0.5
    assert sorted(few.latent.tolist()) == [-1, -1, 0, 1]
    assert np.isnan(few.cosine).sum() == 2
    many = matched(torch.cat([torch.eye(4), torch.eye(4)]), truth)
    assert many.mcc == 1.0
    assert many.uniqueness == 0.5
    with pytest.raises(ValueError, match="cannot be compared"):
        matched(torch.eye(3), truth)


def test_precision_recall_and_f1_by_hand() -> None:
    codes = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 0, 0]])
    features = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]])
    latents = np.array([0, 1, -1, 2])
    found = Detection(latents)
    found.add(codes[:3], features[:3])
    found.add(codes[3:], features[3:])
    scores = found.scores()
    assert scores["precision"][:3].tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert scores["recall"][:3].tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert scores["f1"][:3].tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert np.isnan([scores[name][3] for name in scores]).all()  # never there


def test_detection_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import f1_score, precision_score, recall_score

    codes = drawn(300, 5).relu() * (drawn(300, 5, 1) > 0)
    features = (drawn(300, 5, 2) > 0.3).float()
    latents = np.array([3, 1, 0, 2, 4])
    found = Detection(latents)
    found.add(codes, features)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        wanted = [score(features[:, j] > 0, codes[:, i] > 0) for j, i in enumerate(latents)]
        assert found.scores()[name].tolist() == pytest.approx(wanted)
