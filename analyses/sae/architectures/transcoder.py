"""Transcoder (Dunefsky et al. 2024, arXiv 2406.11944): latents that say what a module will write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import (
    Architecture,
    Loss,
    Moment,
    Weights,
)


@dataclass(frozen=True, kw_only=True)
class Transcoder(Architecture):
    """The loss of another architecture with y of another site: ``|y - (f W_dec + b_dec + x W_skip)|^2``
    in place of ``|y - y_hat|^2``. The encoder never subtracts b_dec, which belongs to y.
    """

    name: ClassVar[str] = "transcoder"

    inner: Architecture
    """How codes become sparse."""
    skip: bool = False
    """Whether a linear path passes by the latents (Paulo et al. 2025, arXiv 2501.18823)."""
    subtract_b_dec: bool = False

    def __post_init__(self) -> None:
        if self.subtract_b_dec:
            raise ValueError(
                "a transcoder's encoder reads one site and its b_dec belongs to another: "
                "subtract_b_dec must be False"
            )
        # The trainer's constraints are those of the architecture within; the instance is frozen.
        object.__setattr__(self, "inner", replace(self.inner, subtract_b_dec=False))
        for name in ("unit_decoder", "betas", "swept", *self.inner.swept):
            object.__setattr__(self, name, getattr(self.inner, name))

    def extra(self, weights: Weights, x: Tensor) -> dict[str, Tensor]:
        """That of `inner`, and W_skip [group, d_in, d_out], zero at the start."""
        own = {}
        if self.skip:
            shape = (len(weights.encoder), weights.encoder.shape[-1], weights.decoder.shape[-1])
            own["W_skip"] = weights.encoder.new_zeros(shape)
        return self.inner.extra(weights, x) | own

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        # What passes by the latents is no more for them to say.
        rest = y - x @ weights.extra["W_skip"] if self.skip else y
        return self.inner.loss(weights, x, rest, moment)

    @torch.no_grad()
    def after_step(self, weights: Weights) -> None:
        self.inner.after_step(weights)

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return self.inner.copies(latents, device)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        past = {"W_skip": weights.extra["W_skip"][member]} if self.skip else {}
        return self.inner.in_use(weights, member, moment) | past
