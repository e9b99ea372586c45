"""How sparse rows of activations are, by several definitions, and what dense rows would give."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from statistics import NormalDist

import torch
from torch import Tensor

from layerscope.analyses.measures.concentration import cover


def active(a: Tensor, levels: Sequence[float]) -> Tensor:
    """Share of the entries of each row above ``level`` times the row's root mean square.

    Level 0 is the share that is not exactly zero: 1 minus the sparsity of Li et al. (2023,
    arXiv 2210.06313).

    Args:
        a: ``[rows, width]``.
        levels: At least 0.

    Returns:
        ``[rows, levels]`` between 0 and 1.
    """
    size = scaled(a).abs()
    rms = size.square().mean(-1, keepdim=True).sqrt()
    return torch.stack([(size > level * rms).float().mean(-1) for level in levels], -1)


def energy(a: Tensor, shares: Sequence[float]) -> Tensor:
    """Fewest entries that hold each share of the row's sum of squares: ``[rows, shares]`` int64."""
    return cover(scaled(a).square(), shares)


def hoyer(a: Tensor) -> Tensor:
    """Hoyer's sparsity of each row, ``[rows]``: 0 where all are of one size, 1 for a single entry.

    ``(sqrt(width) - |a|_1 / |a|_2) / (sqrt(width) - 1)``; NaN for a row of zeros or of one entry.
    """
    size, root = scaled(a).abs(), sqrt(a.shape[-1])
    if a.shape[-1] < 2:
        return torch.full(a.shape[:-1], torch.nan, device=a.device)
    return (root - size.sum(-1) / size.square().sum(-1).sqrt()) / (root - 1)


def treves_rolls(a: Tensor) -> Tensor:
    """``1 - (mean |a|)^2 / mean a^2`` of each row, ``[rows]``, between 0 and 1; NaN for zeros."""
    size = scaled(a).abs()
    return 1 - size.mean(-1).square() / size.square().mean(-1)


def scaled(a: Tensor) -> Tensor:
    """Rows in single precision or better, the largest entry of each at 1: squares stay finite."""
    wide = a.to(torch.promote_types(a.dtype, torch.float32))
    most = wide.abs().amax(-1, keepdim=True)
    return wide / torch.where(most > 0, most, 1)


def gaussian_active(level: float) -> float:
    """`active` of rows of many standard normal numbers."""
    return 2 * NormalDist().cdf(-level)


def gaussian_energy(share: float) -> float:
    """`energy` of rows of many standard normal numbers, as a share of the width.

    >>> round(gaussian_energy(0.9), 3)
    0.445
    """
    normal = NormalDist()
    low, high = 0.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        held = 2 * (middle * normal.pdf(middle) + normal.cdf(-middle))
        low, high = (middle, high) if held > share else (low, middle)
    return 2 * normal.cdf(-low)


def gaussian_hoyer(width: int) -> float:
    """`hoyer` of rows of many standard normal numbers."""
    root = sqrt(width)
    return (1 - sqrt(2 / pi)) * root / (root - 1) if width > 1 else float("nan")


def gaussian_treves_rolls() -> float:
    """`treves_rolls` of rows of many standard normal numbers: 1 - 2 / pi."""
    return 1 - 2 / pi
