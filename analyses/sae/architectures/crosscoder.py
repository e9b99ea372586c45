"""Crosscoder (Lindsey et al. 2024): one dictionary for several sites, read and written together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from layerscope.analyses.sae.architectures.architecture import Moment, Weights
from layerscope.analyses.sae.architectures.relu import ReLU
from layerscope.analyses.sae.architectures.terms import settle


@dataclass(frozen=True, kw_only=True)
class Crosscoder(ReLU):
    """``sum_s |x_s - x_hat_s|^2 + l1 sum_i f_i sum_s |d_i^s|``: rows are those of all sites s, in line.

    "Sparse Crosscoders for Cross-Layer Features and Model Diffing" (Anthropic, October 2024). The
    sum of the norms, not the norm of the whole row, lets a latent that only one site needs leave
    the others at zero. With one site it is `ReLUApril` without a subtracted b_dec.
    """

    name: ClassVar[str] = "crosscoder"
    unit_decoder: ClassVar[bool] = False

    parts: tuple[int, ...]
    """Widths of the sites, in their order."""
    subtract_b_dec: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "parts", least=1, whole=True)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        return super().in_use(weights, member, moment) | {"parts": self.parts}

    def _size(self, codes: Tensor, weights: Weights) -> Tensor:
        sites = weights.decoder.split(self.parts, dim=-1)
        norms = sum((vector_norm(site, dim=-1) for site in sites), weights.b_enc.new_zeros(()))
        return (codes.mean(1, dtype=torch.float32) * norms).sum(-1)
