"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): a learnt threshold for each latent."""

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
from layerscope.analyses.sae.architectures.steps import count_above, jumprelu
from layerscope.analyses.sae.architectures.terms import active, each, l0, settle, squared_error

PENALTIES = ("quadratic", "step", "tanh")
SHARPNESS = 4.0
"""c of the tanh penalty."""
REVIVAL = 3e-6
"""Weight of what pulls dead latents towards their threshold, with the tanh penalty."""
START = 0.1
"""First thresholds where no L0 is aimed at, in standard deviations of the pre-activations."""
PACE = 10
"""Thresholds are trained in units of this: Adam's steps then move them so much further."""
SAMPLE = 512
"""Rows from which first thresholds are taken."""


@dataclass(frozen=True, kw_only=True)
class JumpReLU(Architecture):
    """``|y - y_hat|^2 + penalty``, codes being the pre-activations above their latent's threshold.

    The penalty, by name:

    - quadratic: ``strength <|y - <y>|^2> (L0 / l0 - 1)^2`` holds the mean L0 at `l0`. A bare weight
      on L0 hardly moves it over orders of magnitude and then moves it at once.
    - step: ``strength L0``, the paper's.
    - tanh: ``strength sum_i tanh(4 f_i |d_i|)``, and ``3e-6 sum relu(threshold - pre) |d_i|`` over
      dead latents (Anthropic, Circuits Updates, January 2025).

    Thresholds are learnt as they are, not as logarithms, which move by a share of themselves, and
    in units of 10: Adam's steps have the size of the learning rate, and at that pace thresholds
    would trail behind the encoder for thousands of steps, with half of the L0 that is aimed at.
    Their gradient is that of `steps`, over a bandwidth that follows the spread of the
    pre-activations.
    """

    name: ClassVar[str] = "jumprelu"
    swept: ClassVar[tuple[str, ...]] = ("l0", "strength")
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)

    l0: tuple[float, ...] = (32.0,)
    """Latents per row to aim at (quadratic), one number for each SAE of the group."""
    penalty: str = "quadratic"
    """quadratic, step or tanh."""
    strength: tuple[float, ...] = (1.0,)
    """Weight of the penalty, one number for each SAE of the group."""
    bandwidth: float = 0.5
    """Width of the ramp around the threshold, in standard deviations of the pre-activations. Narrow
    ramps are felt by few latents: of 0.05, 0.2 and 0.5 the widest left fewest dead."""
    to_input: bool = False
    """Whether latents feel the ramp as well, see `steps`."""

    def __post_init__(self) -> None:
        settle(self, "strength", least=0)
        settle(self, "l0", least=1e-3)
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty {self.penalty!r}; there are {', '.join(PENALTIES)}")
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth={self.bandwidth!r}: it must be above 0, such as 0.5")

    @torch.no_grad()
    def extra(self, weights: Weights, x: Tensor) -> dict[str, Tensor]:
        """`slow_threshold` [group, latents], equal at the start; `thresholds` has its values.

        With an L0 to aim at they start there, and need not climb through the pre-activations.
        """
        pre = preactivations(weights, x[:, :SAMPLE], self.subtract_b_dec)
        if self.penalty == "quadratic":
            targets = self.l0 * (len(pre) // len(self.l0))
            start = torch.stack(
                [_exceeded(one, target) for one, target in zip(pre, targets, strict=True)]
            )
        else:
            start = START * _spread(pre).flatten()
        return {"slow_threshold": (start[:, None] / PACE).expand_as(weights.b_enc).clone()}

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        pre = preactivations(weights, x, self.subtract_b_dec)
        threshold = thresholds(weights)
        bandwidth = self.bandwidth * _spread(pre)
        codes = jumprelu(pre, threshold, bandwidth, self.to_input)
        error = squared_error(y, decoded(codes, weights))
        penalty = moment.warm * self._penalty(pre, codes, bandwidth, weights, y, moment)
        return Loss(
            total=error + penalty,
            error=error.detach(),
            l0=l0(codes),
            active=active(codes),
            parts={self.penalty: penalty.detach()},
        )

    @torch.no_grad()
    def after_step(self, weights: Weights) -> None:
        """Thresholds stay at or above 0, so that no code is negative."""
        weights.extra["slow_threshold"].clamp_(min=0)

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (6, 6)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        return {"activation": "jumprelu", "threshold": thresholds(weights)[member]}

    def _penalty(
        self,
        pre: Tensor,
        codes: Tensor,
        bandwidth: Tensor,
        weights: Weights,
        y: Tensor,
        moment: Moment,
    ) -> Tensor:
        """[group]"""
        strength = each(self.strength, pre)
        if self.penalty == "tanh":
            return strength * _tanh(codes, weights) + REVIVAL * _revival(pre, weights, moment)
        count = count_above(pre, thresholds(weights), bandwidth, self.to_input).mean(-1)
        if self.penalty == "step":
            return strength * count
        return strength * _power(y) * (count / each(self.l0, pre) - 1).square()


def thresholds(weights: Weights) -> Tensor:
    """Of every latent, [group, latents]."""
    return PACE * weights.extra["slow_threshold"]


def _tanh(codes: Tensor, weights: Weights) -> Tensor:
    norms: Tensor = vector_norm(weights.decoder, dim=-1)
    return (SHARPNESS * codes * norms[:, None]).tanh().sum(-1).mean(-1)


def _revival(pre: Tensor, weights: Weights, moment: Moment) -> Tensor:
    """How far dead latents are below their threshold, times their rows' norms."""
    short = (thresholds(weights)[:, None] - pre).relu().mean(1)
    norms: Tensor = vector_norm(weights.decoder, dim=-1)
    return (short * norms * moment.dead).sum(-1)


@torch.no_grad()
def _power(y: Tensor) -> Tensor:
    """The error of a constant: what the penalty is measured by, [group or 1]."""
    return (y - y.mean(1, keepdim=True)).square().sum(-1).mean(-1)


@torch.no_grad()
def _spread(pre: Tensor) -> Tensor:
    """Standard deviation over rows and latents, [group, 1, 1]."""
    return pre.std(dim=(1, 2), keepdim=True)


def _exceeded(pre: Tensor, per_row: float) -> Tensor:
    """What `per_row` of the pre-activations [rows, latents] of a row exceed on average; at least 0."""
    below = pre.numel() - round(per_row * len(pre))
    return pre.flatten().kthvalue(min(max(below, 1), pre.numel())).values.clamp(min=0)
