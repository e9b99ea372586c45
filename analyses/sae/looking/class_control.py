"""How many latents of a random dictionary tell a class: what a count of latents that do is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from layerscope.analyses.sae.looking.class_counts import SURE, ClassCounts
from layerscope.analyses.sae.looking.firing import Firing, block_size, blocks, entries
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store


def random_told(
    sae: SAE, store: Store, sites: Sequence[str], seen: Firing, counts: ClassCounts, *, seed: int
) -> float:
    """Share of the live latents of a random dictionary that tell a class better than shuffled labels.

    As wide as `sae`, with random unit directions from the rows' mean, and as many latents a row. It
    knows no class; but the same token always meets the same latents, and a token often has one class.

    Args:
        sites: Whose vectors, side by side, are read.
        seen: Of `sae`: its L0 is taken over.
        counts: Of `sae`: rows, halves and shuffles are taken over.
        seed: Of the directions.
    """
    device = sae.W_enc.device
    active = round(float(seen.fired.sum()) / seen.rows)
    if not active:
        return float("nan")
    size = block_size(sae.n_latents)
    sums = [x.double().sum(0) for x, _ in blocks(store, sites, size)]
    mean = torch.stack(sums).sum(0) / len(store)
    drawn = torch.Generator().manual_seed(seed)
    directions = torch.randn(sae.n_latents, sae.d_in, generator=drawn)
    directions /= directions.norm(dim=1, keepdim=True)
    control = SAE(
        directions.T, torch.zeros(sae.n_latents), directions, mean.float(), activation="topk", k=active
    ).to(device)  # fmt: skip
    own = counts.afresh()
    for x, index in blocks(store, sites, size):
        local, latent, _ = entries(control, x.to(device))
        own.add(latent, index.to(device)[local])
    found = own.classes()
    live = ~np.isnan(found.score)
    told = found.score > found.null + SURE * found.null_sd
    return float(told[live].mean()) if live.any() else float("nan")
