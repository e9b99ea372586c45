"""A decoder whose last blocks are linear in each token, so that an affine lens can be exact there."""

from __future__ import annotations

import torch
from torch import nn

from layerscope.planted.linear_stack import linear_stack

WIDTH, VOCAB, MIXED = 6, 24, 2
"""Blocks 0 and 1 mix tokens, so nothing before them tells the last state; blocks 2 and 3 are linear."""


def linear_end(*, seed: int = 0) -> nn.Module:
    """The decoder; from the output of block 1 on, the last state is a linear image of each state."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(size: float) -> torch.Tensor:
        return size * torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)

    table = torch.randn(VOCAB, WIDTH, generator=generator, dtype=torch.float64)
    attention = [matrix(0.8), matrix(0.8), None, None]
    return linear_stack(table, attention=attention, mlp=[None, None, matrix(0.6), matrix(0.6)])
