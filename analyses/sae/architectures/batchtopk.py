"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): k per row on average, a threshold in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Loss, Moment, Weights
from layerscope.analyses.sae.architectures.auxk import auxk
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.selecting import batch_largest
from layerscope.analyses.sae.architectures.sparse import Codes, pays
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.sae import SAE

SMOOTHING = 0.01
"""Share of the newest batch in the threshold."""


@dataclass(frozen=True, kw_only=True)
class BatchTopK(TopK):
    """``|y - y_hat|^2 + AuxK``, codes being the k * rows largest of the whole batch where positive.

    A row that needs more latents gets more. Rows are read one by one in use, so the SAE is exported
    as a JumpReLU with one threshold: the smoothed smallest code that was selected in training.
    """

    name: ClassVar[str] = "batchtopk"
    whole_k: ClassVar[bool] = False

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        pre, codes = self._selected(weights, x)
        follow(moment.threshold, codes.values.detach())
        error = y - codes.decoded(weights.decoder) - weights.b_dec[:, None]
        squared = error.square().sum(-1).mean(-1)
        revival = auxk(weights, x, pre, error, moment, self.aux, self.subtract_b_dec)
        return Loss(
            total=squared + revival,
            error=squared.detach(),
            l0=codes.l0(),
            active=codes.active(),
            parts={"auxk": revival.detach()},
        )

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (1.5, 1.5) if self._is_sparse(latents, device) else (3.5, 3.5)

    def export(self, weights: Weights, member: int, moment: Moment) -> SAE:
        # The smallest selected code equals the threshold, and above it is what JumpReLU keeps.
        # The average started at 0; after few steps it has not forgotten that (as Adam's moments).
        whole = 1 - (1 - SMOOTHING) ** moment.steps
        threshold = (moment.threshold[member] / max(whole, SMOOTHING)).float()
        below = torch.nextafter(threshold, torch.full_like(threshold, -torch.inf))
        return SAE(
            weights.encoder[member].T,
            weights.b_enc[member],
            weights.decoder[member],
            weights.b_dec[member],
            activation="jumprelu",
            threshold=below.clamp(min=0).expand(weights.encoder.shape[1]).clone(),
            subtract_b_dec=self.subtract_b_dec,
        )

    def _selected(self, weights: Weights, x: Tensor) -> tuple[Tensor, Codes]:
        """Pre-activations, without a graph where the sparse products make their own; and codes."""
        pre = preactivations(weights, x, self.subtract_b_dec)
        group, rows, latents = pre.shape
        counts = [round(k * rows) for k in self.k * (group // len(self.k))]
        indices, keep = batch_largest(pre.detach(), counts)
        # A few rows may take very many latents: the widest decides what is faster.
        sparse = self.sparse
        if sparse is None:
            sparse = pays(x.device, latents, indices.shape[-1])
        pre = pre.detach() if sparse else pre
        return pre, Codes(weights, x, pre, indices, self.subtract_b_dec, keep)


@torch.no_grad()
def follow(threshold: Tensor, values: Tensor) -> None:
    """``threshold <- 0.99 threshold + 0.01 smallest positive value``, in place; float64, [group]."""
    smallest = values.masked_fill(values <= 0, torch.inf).flatten(1).amin(-1).double()
    moved = threshold + SMOOTHING * (smallest - threshold)
    threshold.copy_(torch.where(smallest.isfinite(), moved, threshold))
