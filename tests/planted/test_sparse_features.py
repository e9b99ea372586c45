"""Sparse sums of known directions: the truth that is told is the truth."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted.sparse_features import sparse_features, zipf


def test_rows_are_the_sums_of_what_fires() -> None:
    found = sparse_features(20_000, 16, 24, probability=0.1, seed=1)
    by_hand = torch.zeros(20_000, 16)
    for feature in range(24):
        by_hand += found.amplitudes[:, feature, None] * found.directions[feature]
    torch.testing.assert_close(found.x, by_hand)
    torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(24))
    fired = found.amplitudes[found.support]
    assert 0.5 <= fired.min() < 0.501
    assert 1.499 < fired.max() <= 1.5
    assert float(fired.mean()) == pytest.approx(1, abs=0.005)
    share = found.support.float().mean(0)
    assert float((share - 0.1).abs().max()) < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    assert float(found.support.sum(1).float().mean()) == pytest.approx(found.l0, abs=0.05)


def test_orthonormal_directions_are() -> None:
    found = sparse_features(10, 16, 12, probability=0.5, orthonormal=True)
    torch.testing.assert_close(found.directions @ found.directions.T, torch.eye(12))
    torch.testing.assert_close(found.x @ found.directions.T, found.amplitudes)


def test_each_feature_has_its_own_probability() -> None:
    p = zipf(30, 0.01, 0.3)
    assert p[0].item() == pytest.approx(0.3)
    assert p[-1].item() == pytest.approx(0.01)
    assert float(p[1] / p[0]) == pytest.approx(float(p[29] / p[14]))  # twice the rank, one ratio
    share = sparse_features(50_000, 8, 30, probability=p).support.float().mean(0)
    assert float(((share - p) / (p * (1 - p) / 50_000).sqrt()).abs().max()) < 4


def test_pairs_fire_together_as_often_as_told() -> None:
    p = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.25])
    found = sparse_features(100_000, 8, 5, probability=p, pairs=0.6, seed=3).support.double()
    share = found.mean(0)
    assert float((share - p).abs().max()) < 0.006
    together = float((found[:, 0] * found[:, 1]).mean())
    assert together == pytest.approx(0.6 * 0.1 + 0.4 * 0.3 * 0.1, abs=0.003)
    correlations = torch.corrcoef(found.T)
    assert float(correlations[2, 3]) == pytest.approx(0.6, abs=0.01)
    apart = [float(correlations[i, j]) for i, j in [(0, 2), (1, 2), (3, 4), (0, 4)]]
    assert max(map(abs, apart)) < 0.015


def test_seeds_make_the_same_and_others() -> None:
    one, same = (sparse_features(50, 8, 6, probability=0.5, seed=1) for _ in range(2))
    longer = sparse_features(70, 8, 6, probability=0.5, seed=1)
    other = sparse_features(50, 8, 6, probability=0.5, seed=2)
    torch.testing.assert_close(one.x, same.x, rtol=0, atol=0)
    torch.testing.assert_close(one.directions, longer.directions, rtol=0, atol=0)
    assert float((one.directions - other.directions).abs().max()) > 0.1


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="9 orthonormal directions in 8 dimensions"):
        sparse_features(10, 8, 9, probability=0.1, orthonormal=True)
    with pytest.raises(ValueError, match=r"probabilities from 0\.5 to 1\.5"):
        sparse_features(10, 8, 2, probability=[0.5, 1.5])
