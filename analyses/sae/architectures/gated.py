"""Gated (Rajamanoharan et al. 2024, arXiv 2404.16014): one path says whether, another how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae import activations
from layerscope.analyses.sae.architectures.architecture import (
    Architecture,
    Loss,
    Moment,
    Weights,
)
from layerscope.analyses.sae.architectures.dense import decoded, preactivations
from layerscope.analyses.sae.architectures.terms import active, each, l0, settle, squared_error


@dataclass(frozen=True, kw_only=True)
class Gated(Architecture):
    """``|y - y_hat|^2 + l1 sum_i relu(pi_i) + |y - y_gate|^2``: the penalty shrinks only the gate.

    The gate's pre-activation is pi (bias `b_enc`), the codes ``1[pi > 0] relu(e^r_mag (pi - b_enc)
    + b_mag)``: both paths from one product. ``y_gate = relu(pi) sg(W_dec) + sg(b_dec)`` teaches the
    gate, for no gradient passes the step, and leaves the decoder alone.
    """

    name: ClassVar[str] = "gated"
    swept: ClassVar[tuple[str, ...]] = ("l1",)
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)

    l1: tuple[float, ...] = (1.0,)
    """Weight of the penalty, one number for each SAE of the group; in units of the scaled rows."""

    def __post_init__(self) -> None:
        settle(self, "l1", least=0)

    def extra(self, weights: Weights, x: Tensor) -> dict[str, Tensor]:
        return {
            "r_mag": torch.zeros_like(weights.b_enc),
            "b_mag": torch.zeros_like(weights.b_enc),
        }

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        pi = preactivations(weights, x, self.subtract_b_dec)
        per_latent = (weights.b_enc, weights.extra["r_mag"], weights.extra["b_mag"])
        codes = activations.gated(pi, *(tensor[:, None] for tensor in per_latent))
        gate = pi.relu()
        error = squared_error(y, decoded(codes, weights))
        by_gate = squared_error(y, _decoded_by_frozen(gate, weights))
        penalty = each(self.l1, x) * moment.warm * gate.sum(-1, dtype=torch.float32).mean(-1)
        return Loss(
            total=error + penalty + by_gate,
            error=error.detach(),
            l0=l0(codes),
            active=active(codes),
            parts={"l1": penalty.detach(), "gate": by_gate.detach()},
        )

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (8, 8)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        own = {name: weights.extra[name][member] for name in ("r_mag", "b_mag")}
        return {"activation": "gated", **own}


def _decoded_by_frozen(gate: Tensor, weights: Weights) -> Tensor:
    return torch.baddbmm(weights.b_dec.detach()[:, None], gate, weights.decoder.detach())
