"""Training finds planted directions again: how well, and how it fails where it must."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from layerscope.analyses.sae import SAE, train, train_together
from layerscope.analyses.sae.measuring.dictionary import Matched, matched
from layerscope.planted.sparse_features import SparseFeatures, sparse_features, zipf

ROWS = 100_000


def trained(plant: SparseFeatures, steps: int, batch: int, **options: Any) -> tuple[SAE, ...]:
    return train_together(
        plant.x, tokens=steps * batch, batch=batch, lr=3e-3, progress=False, **options
    )


def beside(sae: SAE, plant: SparseFeatures) -> Matched:
    return matched(sae.W_dec, plant.directions)


def unexplained(sae: SAE, x: Tensor) -> float:
    """Squared error over the variance of the rows."""
    return float((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum())


def density(sae: SAE, x: Tensor) -> Tensor:
    return (sae.encode(x) > 0).double().mean(0)


def test_the_planted_dictionary_itself_is_exact() -> None:
    plant = sparse_features(5000, 32, 32, probability=3 / 32, orthonormal=True)
    most = int(plant.support.sum(1).max())
    q = plant.directions
    sae = SAE(q.T, torch.zeros(32), q, torch.zeros(32), activation="topk", k=most)
    torch.testing.assert_close(sae.encode(plant.x), plant.amplitudes, rtol=0, atol=1e-5)
    torch.testing.assert_close(sae(plant.x), plant.x, rtol=0, atol=1e-5)
    assert unexplained(sae, plant.x) < 1e-10
    assert beside(sae, plant).mcc > 1 - 1e-6


def test_orthonormal_features_are_found() -> None:
    plant = sparse_features(ROWS, 32, 32, probability=3 / 32, orthonormal=True)
    (start,) = trained(plant, 1, 1024, width=32, k=4)
    assert beside(start, plant).mcc < 0.45  # directions at random
    for sae in trained(plant, 1500, 1024, width=32, k=4, seed=(0, 1)):
        assert beside(sae, plant).mcc > 0.93
        seen = density(sae, plant.x)
        assert 3.8 < seen.sum() <= 4
        assert int((seen == 0).sum()) <= 1


def test_twice_as_many_features_as_dimensions() -> None:
    """The right number of latents, half as many, and a k that is four times too large."""
    plant = sparse_features(ROWS, 32, 64, probability=3 / 64)
    (start,) = trained(plant, 1, 512, width=64, k=3)
    assert beside(start, plant).mcc < 0.5
    right, loose = trained(plant, 1500, 512, width=64, k=(3, 12))
    (half,) = trained(plant, 1500, 512, width=32, k=3)
    found = beside(right, plant)
    assert found.mcc > 0.88
    assert int((density(right, plant.x) == 0).sum()) <= 4

    # A better reconstruction of worse features: error alone must not be the score.
    assert unexplained(loose, plant.x) < 0.09
    assert unexplained(right, plant.x) > 0.13
    assert beside(loose, plant).mcc < found.mcc - 0.08

    # Too few latents hedge: each mixes features, and what is left out stays unexplained.
    hedged = beside(half, plant)
    assert hedged.mcc < found.mcc - 0.03
    assert 0.76 < hedged.mmcs < 0.84
    assert 0.32 < unexplained(half, plant.x) < 0.38


def test_surplus_latents_stay_out_of_the_way() -> None:
    plant = sparse_features(ROWS, 32, 64, probability=3 / 64)
    (sae,) = trained(plant, 1500, 512, width=128, k=3)
    found = beside(sae, plant)
    assert found.mcc > 0.97
    assert (found.cosine > 0.9).all()
    # A planted feature fires at 4.7 % of the rows.
    seen = density(sae, plant.x)
    assert 60 <= int((seen > 0.01).sum()) <= 68
    matched_density = seen[torch.from_numpy(found.latent)]
    assert float(matched_density.sum() / seen.sum()) > 0.97


def test_rare_features_and_pairs_keep_their_frequencies() -> None:
    p = zipf(32, 0.01, 0.3)
    plant = sparse_features(ROWS, 32, 32, probability=p, pairs=0.3)
    sae = train(plant.x, width=64, k=4, tokens=1500 * 1024, batch=1024, lr=3e-3, progress=False)
    found = beside(sae, plant)
    assert (found.cosine > 0.9).all()  # the two of a pair have a latent each
    assert len(set(found.latent.tolist())) == 32
    learned = density(sae, plant.x)[torch.from_numpy(found.latent)]
    assert spearmanr(learned, p).statistic > 0.9
