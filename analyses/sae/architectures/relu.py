"""ReLU with a penalty on the sum of the codes (L1): what sparse autoencoders began with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from layerscope.analyses.sae.architectures.architecture import (
    Architecture,
    Loss,
    Moment,
    Weights,
)
from layerscope.analyses.sae.architectures.dense import decoded, preactivations
from layerscope.analyses.sae.architectures.terms import active, each, l0, settle, squared_error


@dataclass(frozen=True, kw_only=True)
class ReLU(Architecture):
    """``|y - y_hat|^2 + l1 sum_i f_i``, codes ``f = relu(pre)``, decoder rows of norm 1.

    Bricken et al. 2023, "Towards Monosemanticity". Without the norms held, the penalty could be
    had for nothing: small codes, long rows.
    """

    name: ClassVar[str] = "relu"
    swept: ClassVar[tuple[str, ...]] = ("l1",)

    l1: tuple[float, ...] = (1.0,)
    """Weight of the penalty, one number for each SAE of the group; in units of the scaled rows."""

    def __post_init__(self) -> None:
        settle(self, "l1", least=0)

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        codes = preactivations(weights, x, self.subtract_b_dec).relu()
        error = squared_error(y, decoded(codes, weights))
        penalty = each(self.l1, x) * moment.warm * self._size(codes, weights)
        return Loss(
            total=error + penalty,
            error=error.detach(),
            l0=l0(codes),
            active=active(codes),
            parts={"l1": penalty.detach()},
        )

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        return {"activation": "relu"}

    def _size(self, codes: Tensor, weights: Weights) -> Tensor:
        """What the penalty counts, mean over rows, [group]."""
        return codes.sum(-1, dtype=torch.float32).mean(-1)


@dataclass(frozen=True, kw_only=True)
class ReLUApril(ReLU):
    """``|y - y_hat|^2 + l1 sum_i f_i |d_i|``, decoder free: the penalty knows the norms of its rows.

    Anthropic's "April update" (Circuits Updates, April 2024), SAELens' "standard".
    """

    name: ClassVar[str] = "relu_april"
    unit_decoder: ClassVar[bool] = False

    def _size(self, codes: Tensor, weights: Weights) -> Tensor:
        # First the mean, then the norms: batch x latents numbers are touched once.
        mean = codes.mean(1, dtype=torch.float32)
        size: Tensor = (mean * vector_norm(weights.decoder, dim=-1)).sum(-1)
        return size
