"""Rows of activations and of attention whose sparsity and concentration are known exactly."""

from __future__ import annotations

from math import ceil, log, sqrt
from statistics import NormalDist

import torch
from torch import Tensor


def rectified(rows: int, width: int, threshold: float, *, seed: int = 0) -> tuple[Tensor, float]:
    """``relu(N(-threshold, 1))`` ``[rows, width]``, and the expected share that is not zero.

    Thresholds of 0, 1.5301 and 1.8808 leave 50, 6.3 and 3.0 %.
    """
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(rows, width, generator=generator) - threshold
    return before.relu(), NormalDist().cdf(-threshold)


def k_hot(rows: int, width: int, k: int, *, seed: int = 0) -> tuple[Tensor, dict[str, float]]:
    """Rows with `k` ones at random places ``[rows, width]``, and the exact measures of such rows."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(rows, width, generator=generator).argsort(-1)
    truth = {
        "active": k / width,
        "hoyer": (sqrt(width) - sqrt(k)) / (sqrt(width) - 1),
        "treves_rolls": 1 - k / width,
        "energy": ceil(0.9 * k - 1e-9),
    }
    return (order < k).float(), truth


def geometric(keys: int, ratio: float) -> tuple[Tensor, int]:
    """Probabilities in proportion to ``ratio ** i``, and how many of the largest hold 90 %.

    The count is that of endlessly many keys: 4 for 0.5, 22 for 0.9.
    """
    weights = ratio ** torch.arange(keys, dtype=torch.float64)
    return weights / weights.sum(), ceil(log(0.1) / log(ratio))


def gaussian_softmax(rows: int, keys: int, spread: float, *, seed: int = 0) -> Tensor:
    """Softmax of Gaussian logits of standard deviation `spread`: ``[rows, keys]``."""
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(rows, keys, generator=generator)).softmax(-1)
