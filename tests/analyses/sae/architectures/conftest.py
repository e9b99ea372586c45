"""Weights and moments of training, small and seeded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from layerscope.analyses.sae.architectures.architecture import Moment, Weights


@pytest.fixture
def make_weights() -> Callable[..., Weights]:
    """``make_weights(group, latents, d_in, d_out)``: leaves that collect gradients."""

    def make(
        group: int = 3, latents: int = 24, d_in: int = 6, d_out: int = 6, seed: int = 0
    ) -> Weights:
        own = torch.Generator().manual_seed(seed)

        def draw(*shape: int, size: float = 1.0) -> torch.Tensor:
            return (size * torch.randn(*shape, generator=own)).requires_grad_()

        decoder = torch.randn(group, latents, d_out, generator=own)
        decoder = (decoder / decoder.norm(dim=-1, keepdim=True)).requires_grad_()
        return Weights(
            encoder=draw(group, latents, d_in, size=0.6),
            b_enc=draw(group, latents, size=0.2),
            decoder=decoder,
            b_dec=draw(group, d_out, size=0.3),
        )

    return make


@pytest.fixture
def make_moment() -> Callable[..., Moment]:
    """``make_moment(dead)`` with dead latents [group, latents], or ``make_moment(group, latents)``."""

    def make(*what: object, warm: float = 1.0) -> Moment:
        if isinstance(what[0], torch.Tensor):
            dead = what[0]
        else:
            dead = torch.zeros(*what, dtype=torch.bool)  # type: ignore[arg-type]
        return Moment(
            dead=dead,
            most_dead=int(dead.sum(-1).max()),
            threshold=torch.zeros(len(dead), dtype=torch.float64),
            warm=warm,
        )

    return make
