"""A latent that is silent where its feature fires: absorption, and what nested dictionaries help."""

from __future__ import annotations

import statistics

import torch

from layerscope.analyses.sae import SAE, train_together
from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka
from layerscope.planted.absorbed import CHILD, PARENT, SparseFeatures, absorbed

STARTS = tuple(range(6))


def trained(plant: SparseFeatures, architecture: Architecture) -> tuple[SAE, ...]:
    return train_together(
        plant.x,
        architecture=architecture,
        width=12,
        tokens=2000 * 512,
        batch=512,
        lr=3e-3,
        seed=STARTS,
        progress=False,
    )


def recalls(plant: SparseFeatures, sae: SAE) -> tuple[float, float, float]:
    """Where the parent's latent fires: without and with the child; and its cosine to the parent."""
    cosines = torch.nn.functional.cosine_similarity(sae.W_dec, plant.directions[PARENT][None])
    latent = int(cosines.argmax())
    fires = sae.encode(plant.x)[:, latent] > 0
    parent, child = plant.support[:, PARENT], plant.support[:, CHILD]
    alone, both = fires[parent & ~child].float().mean(), fires[child].float().mean()
    return float(alone), float(both), float(cosines[latent])


def explained(plant: SparseFeatures, sae: SAE) -> float:
    x = plant.x
    return float(1 - (x - sae(x)).square().sum() / (x - x.mean(0)).square().sum())


def test_too_few_latents_a_row_absorb_and_nesting_helps() -> None:
    plant = absorbed(100_000)
    many = (1.22,) * len(STARTS)  # as many as fire
    few = trained(plant, BatchTopK(k=(1,) * len(STARTS)))
    best = max(few, key=lambda sae: explained(plant, sae))
    alone, both, cosine = recalls(plant, best)
    assert cosine > 0.99  # the direction is perfect, and yet:
    assert alone > 0.8
    assert both < 0.05

    flat = [recalls(plant, sae)[1] for sae in trained(plant, BatchTopK(k=many))]
    nested = [recalls(plant, sae)[1] for sae in trained(plant, Matryoshka(k=many, widths=(3, 12)))]
    assert statistics.median(nested) > statistics.median(flat)
