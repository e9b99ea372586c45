"""Decoders whose blocks turn the state by known angles: cosines and effects are trigonometry."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin

import torch
from torch import Tensor, nn

from layerscope.planted.linear_stack import linear_stack


def quarter_turns(pairs: int) -> Tensor:
    """A matrix ``[2 pairs, 2 pairs]`` that turns every vector by 90 degrees and keeps its length."""
    block = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    turned: Tensor = torch.block_diag(*[block] * pairs)
    return turned


def rotation(degrees: float) -> Tensor:
    """The matrix ``[2, 2]`` that turns the plane."""
    a = radians(degrees)
    return torch.tensor([[cos(a), -sin(a)], [sin(a), cos(a)]], dtype=torch.float64)


def turning(
    ratios: Sequence[float], *, tokens: int = 31, width: int = 6, seed: int = 0
) -> nn.Module:
    """Block i adds its MLP's output alone: the state turned by 90 degrees, ``ratios[i]`` times as long.

    So the cosine of its input and output is ``1 / sqrt(1 + ratios[i] ** 2)``, and skipping it changes
    what every later block adds by ``ratios[i] / sqrt(1 + ratios[i] ** 2)``.
    """
    return linear_stack(
        states(tokens, width, seed=seed), mlp=[r * quarter_turns(width // 2) for r in ratios]
    )


def circling(degrees: Sequence[float], *, tokens: int = 61, seed: int = 0) -> nn.Module:
    """States in the plane, which block i turns by ``degrees[i]``: blocks that turn by 360 together
    can all be left out."""
    steps = [rotation(d) - torch.eye(2, dtype=torch.float64) for d in degrees]
    return linear_stack(states(tokens, 2, seed=seed), mlp=steps)


def states(tokens: int, width: int, *, seed: int = 0) -> Tensor:
    """``[tokens, width]`` normal states."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, width, generator=generator).double()
