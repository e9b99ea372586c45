"""A latent that is silent where its feature fires: absorption, and what nested dictionaries help."""

from __future__ import annotations

import numpy as np
import torch

from layerscope.analyses.sae import SAE, train_together
from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka
from layerscope.planted.absorbed import CHILD, PARENT, absorbed
from layerscope.planted.sparse_features import SparseFeatures

STARTS = (0, 1, 2)


def trained(plant: SparseFeatures, architecture: Architecture) -> tuple[SAE, ...]:
    """One SAE for each value of the architecture's k; the starts repeat."""
    return train_together(
        plant.x,
        architecture=architecture,
        width=12,
        tokens=1500 * 512,
        batch=512,
        lr=3e-3,
        seed=STARTS * (len(architecture.k) // len(STARTS)),
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


def test_too_few_latents_a_row_absorb_and_nesting_helps() -> None:
    plant = absorbed(100_000, seed=1)
    too_few, enough = (1,) * len(STARTS), (1.22,) * len(STARTS)  # 1.22 features fire
    flat = [recalls(plant, sae) for sae in trained(plant, BatchTopK(k=too_few + enough))]
    tight, right = flat[: len(STARTS)], flat[len(STARTS) :]
    alone, both, cosine = np.median(tight, axis=0)
    assert cosine > 0.99  # the direction is perfect, and yet:
    assert alone > 0.8
    assert both < 0.05

    nested = [recalls(plant, sae) for sae in trained(plant, Matryoshka(k=enough, widths=(3, 12)))]
    assert np.median(nested, axis=0)[1] > np.median(right, axis=0)[1] + 0.5
