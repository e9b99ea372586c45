"""The auxiliary loss that revives dead latents: they predict what the living ones leave over."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Moment, Weights
from layerscope.analyses.sae.architectures.sparse import Codes

CHUNK = 1 << 24
"""Pre-activations of dead latents that are copied at a time."""


def auxk(
    weights: Weights,
    x: Tensor,
    pre: Tensor,
    error: Tensor,
    moment: Moment,
    weight: float,
    subtract: bool,
) -> Tensor:
    """AuxK of each SAE, [group]; zero where no latent is dead, or all rows have one error.

    The k_a = min(d / 2, dead) largest pre-activations among dead latents, rectified and decoded
    without b_dec, are to equal the error: ``w s |sg(e) - f_a W_dec|^2 / <|sg(e) - <e>|^2>`` with
    ``s = min(dead / (d / 2), 1)``. The form of Gao et al. 2024 (arXiv 2406.04093), normalised so
    that its size does not hang on that of the error.

    Args:
        weights: Of the group.
        x: [group or 1, batch, d_in].
        pre: [group, batch, latents].
        error: y - y_hat, [group, batch, d_out]; its graph is not followed.
        moment: Says who is dead.
        weight: w, 1/32 in the paper.
        subtract: Whether `b_dec` was subtracted from the rows.
    """
    if weight == 0 or moment.most_dead == 0:
        return error.new_zeros(len(error))
    half = max(1, error.shape[-1] // 2)
    indices, alive = _largest_dead(pre.detach(), moment, half)
    codes = Codes(weights, x, pre, indices, subtract, keep=~alive)
    left = error.detach() - codes.decoded(weights.decoder)
    spread = (error.detach() - error.detach().mean(1, keepdim=True)).square().sum(-1).mean(-1)
    share = (moment.dead.sum(-1) / half).clamp(max=1)
    # Errors that are all the same, as in a batch of one row, have no variance to be measured by.
    size = torch.where(spread > 0, weight * share / spread, 0.0)
    return size * left.square().sum(-1).mean(-1)


def _largest_dead(pre: Tensor, moment: Moment, most: int) -> tuple[Tensor, Tensor]:
    """Latents [group, batch, k_a], and which of them are no dead ones but fill the row."""
    # Dead latents first, in their order; as many as the SAE with most of them has.
    dead, who = moment.dead.to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    dead, who = dead[:, : moment.most_dead] > 0, who[:, : moment.most_dead]
    rows = max(1, CHUNK // who.numel())
    found = [_best(part, who, dead, most) for part in pre.split(rows, dim=1)]
    indices, best = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return indices, best == -torch.inf


def _best(pre: Tensor, who: Tensor, dead: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The latents of `who` [group, n] with the largest values, and those; -inf where not dead."""
    wide = who[:, None].expand(-1, pre.shape[1], -1)
    among = pre.gather(-1, wide).masked_fill_(~dead[:, None], -torch.inf)
    best, place = among.topk(min(most, who.shape[1]), dim=-1)
    return wide.gather(-1, place), best
