"""Products with every latent, for a whole group of SAEs at once."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Weights


def preactivations(
    weights: Weights, x: Tensor, subtract_b_dec: bool, out: Tensor | None = None
) -> Tensor:
    """``(x - b_dec) W_enc + b_enc``, [group, batch, latents].

    `b_dec` goes through the bias: its gradient is then one product with a vector instead of one
    with every row, and SAEs that see the same rows share one product.

    Args:
        weights: Of the group.
        x: [group, batch, d_in], or [1, batch, d_in] where all see the same rows.
        subtract_b_dec: Whether `b_dec` is subtracted from the rows.
        out: Where to put them, as many float32 numbers in any shape; without a graph only.
    """
    bias = weights.b_enc
    if subtract_b_dec:
        bias = bias - torch.einsum("gfd,gd->gf", weights.encoder, weights.b_dec)
    group, latents = bias.shape
    if len(x) == group and group > 1:
        place = None if out is None else out.view(group, -1, latents)
        return torch.baddbmm(bias[:, None], x, weights.encoder.mT, out=place)
    place = None if out is None else out.view(-1, group * latents)
    together = torch.addmm(bias.flatten(), x[0], weights.encoder.flatten(0, 1).T, out=place)
    return together.view(-1, group, latents).transpose(0, 1)


def decoded(codes: Tensor, weights: Weights) -> Tensor:
    """``f W_dec + b_dec``, [group, batch, d_out], of dense codes [group, batch, latents]."""
    return torch.baddbmm(weights.b_dec[:, None], codes, weights.decoder)
