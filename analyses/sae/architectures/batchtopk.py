"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): k per row on average, a threshold in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Moment, Weights
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.selecting import batch_largest
from layerscope.analyses.sae.architectures.sparse import Codes, pays
from layerscope.analyses.sae.architectures.topk import TopK

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

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (1.5, 1.5) if self._is_sparse(latents, device) else (3.5, 3.5)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        # The smallest selected code equals the threshold, and above it is what JumpReLU keeps.
        # The average started at 0; after few steps it has not forgotten that (as Adam's moments).
        whole = 1 - (1 - SMOOTHING) ** moment.steps
        threshold = (moment.threshold[member] / max(whole, SMOOTHING)).float()
        below = torch.nextafter(threshold, torch.full_like(threshold, -torch.inf))
        everywhere = below.clamp(min=0).expand(weights.encoder.shape[1]).clone()
        return {"activation": "jumprelu", "threshold": everywhere}

    def selected(self, weights: Weights, x: Tensor, moment: Moment) -> tuple[Tensor, Codes]:
        """As in `TopK`; the threshold follows."""
        pre = self._pre(weights, x, moment)
        group, rows, latents = pre.shape
        counts = [round(k * rows) for k in self.k * (group // len(self.k))]
        indices, keep = batch_largest(pre.detach(), counts)
        # A few rows may take very many latents: the widest decides what is faster.
        wide = self.sparse is None and not pays(x.device, latents, indices.shape[-1])
        if wide and not pre.requires_grad:
            pre = preactivations(weights, x, self.subtract_b_dec)
        codes = Codes(weights, x, pre, indices, self.subtract_b_dec, keep)
        follow(moment.threshold, codes.values.detach())
        return pre, codes


@torch.no_grad()
def follow(threshold: Tensor, values: Tensor) -> None:
    """``threshold <- 0.99 threshold + 0.01 smallest positive value``, in place; float64, [group]."""
    smallest = values.masked_fill(values <= 0, torch.inf).flatten(1).amin(-1).double()
    moved = threshold + SMOOTHING * (smallest - threshold)
    threshold.copy_(torch.where(smallest.isfinite(), moved, threshold))
