"""Pairs and traces in which truth is planted along known axes, with the accuracies that follow."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContrastPairs:
    """States of both sides of statements."""

    first: Tensor
    """``[pairs, width]``"""
    second: Tensor
    truth: Tensor
    """``[pairs]`` bool: whether the first side is true; along axis 0, opposite on the two sides."""
    distractor: Tensor
    """``[pairs]`` bool: another bit that is opposite on the two sides; along axis 2."""


def contrast_pairs(
    pairs: int = 1000,
    width: int = 64,
    *,
    truth: float = 2.0,
    form: float = 5.0,
    distractor: float = 0.0,
    seed: int = 0,
) -> ContrastPairs:
    """Each axis is plus or minus its size on the two sides; unit noise of each side on top.

    Args:
        truth: Size along axis 0.
        form: Size along axis 1, which only says which side it is: centring removes it.
        distractor: Size along axis 2.
    """
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (2, pairs), generator=generator).bool()
    shared = torch.randn(pairs, width, generator=generator)
    sides = [shared + torch.randn(pairs, width, generator=generator) for _ in range(2)]
    signs = bits.float() * 2 - 1
    for side, way in zip(sides, (1, -1), strict=True):
        side[:, 0] += way * truth * signs[0]
        side[:, 1] += way * form
        side[:, 2] += way * distractor * signs[1]
    return ContrastPairs(sides[0], sides[1], bits[0], bits[1])


def trace_deltas(
    traces: int, layers: int = 8, width: int = 64, *, gap: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Deltas ``[traces, layers, width]`` and whether each trace is correct, ``[traces]`` bool.

    In every layer correct and wrong traces lie `gap` apart along a random unit vector, in unit noise.
    """
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(layers, width, generator=generator), dim=1)
    correct = torch.randint(2, (traces,), generator=generator).bool()
    noise = torch.randn(traces, layers, width, generator=generator)
    return noise + gap / 2 * (correct.float() * 2 - 1)[:, None, None] * axis, correct


def centroid_accuracy(gap: float, layers: int, width: int, traces: int) -> float:
    """Expected accuracy on `trace_deltas` of centroids estimated from so many other traces.

    Without the noise of the centroids it would be Phi(gap sqrt(layers) / 2).
    """
    apart = gap * gap * layers
    noise = 2 * layers * width * 2 / traces
    return _phi(apart / (2 * sqrt(apart + noise)))


def _phi(z: float) -> float:
    return (1 + erf(z / sqrt(2))) / 2
