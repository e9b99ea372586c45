"""Absorption: a latent that should fire stays silent, and a more special one has its direction.

The two scores of SAEBench (Karvonen et al. 2025, arXiv 2503.09532, after Chanin et al. 2024): for
rows at which a linear probe of the whole vector finds the feature, how much of the probe's direction
is written by latents other than those that are supposed to stand for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

FULL_COSINE = 0.025
"""Cosine to the probe that the absorbing latent needs, for full absorption."""
PART_COSINE = 0.1
"""The same for a part."""
SHARE = 0.4
"""Of the row's projection that the absorbing latents must have."""
ABSORBERS = 3
"""Most latents that absorb a part."""


def projections(codes: Tensor, decoder: Tensor, direction: Tensor) -> Tensor:
    """[rows, latents] what each latent writes along a unit direction [d]: ``f_i d_i . w``."""
    return codes * (decoder @ direction)


def full_absorption(
    written: Tensor, cosines: Tensor, split: Tensor, total: Tensor, codes: Tensor
) -> Tensor:
    """[rows] bool: every split latent is silent, and the latent that writes most has taken over.

    Args:
        written: [rows, latents], see `projections`.
        cosines: [latents] of decoder rows and the probe.
        split: [s] latents that are supposed to stand for the feature.
        total: [rows] the row's own projection on the probe's unit direction.
        codes: [rows, latents].
    """
    silent = (codes[:, split] == 0).all(1)
    top = written.max(1)
    near = cosines[top.indices] >= FULL_COSINE
    return silent & near & (total > 0) & (top.values >= SHARE * total)


def absorption_fraction(written: Tensor, cosines: Tensor, split: Tensor, total: Tensor) -> Tensor:
    """[rows] in 0 to 1: of what stands for the feature, the share that other latents write.

    With M what the split latents write, A what the (at most three) strongest others do, and T the
    row's projection: 0 where M reaches T or A is below 0.4 T; 1 where M is not positive; else
    ``a / (a + M)`` with ``a = min(A, T - M)``.

    Args:
        written, cosines, split, total: See `full_absorption`.
    """
    main = written[:, split].sum(1)
    others = written.where((cosines >= PART_COSINE) & (written > 0), 0.0)
    others[:, split] = 0.0
    absorbed = others.topk(min(ABSORBERS, others.shape[1]), dim=1).values.sum(1)
    part = torch.minimum(absorbed, total - main)
    fraction = (part / (part + main)).where(main > 0, 1.0)
    nothing = (main >= total) | (absorbed < SHARE * total)
    return fraction.where(~nothing, 0.0)
