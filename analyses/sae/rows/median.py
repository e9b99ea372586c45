"""The geometric median: where a dictionary's centre starts."""

from __future__ import annotations

import torch
from torch import Tensor

GUARD = 1e-8
"""Rows nearer than this share of the spread count as lying on the guess."""


def geometric_median(x: Tensor, *, iterations: int = 500, tolerance: float = 1e-6) -> Tensor:
    """The point [width] with the least sum of Euclidean distances to the rows [n, width].

    Weiszfeld's iteration, in float64. Rows on the guess itself, whose weight would be infinite,
    are left out of the step and hold it back by their number (Vardi and Zhang 2000, PNAS 97:1423),
    so that it neither divides by zero nor stops at a row that is not the median.

    Args:
        x: [n, width], finite.
        iterations: At most so many steps.
        tolerance: Ends once a step is shorter than this share of the mean distance.

    Returns:
        [width], in the dtype of `x`.

    Raises:
        ValueError: no rows.
    """
    if x.ndim != 2 or not len(x):
        raise ValueError(f"the median of rows [n, width], n at least 1, got {list(x.shape)}")
    # On a device without float64 (MPS), in float32; taken about the mean, no digits are lost.
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    centre = x.mean(0, dtype=wide)
    rows = x.to(wide) - centre
    guess = torch.zeros_like(centre)
    for _ in range(iterations):
        moved, spread = _step(rows, guess)
        done = bool((moved - guess).norm() <= tolerance * spread)
        guess = moved
        if done:
            break
    return (guess + centre).to(x.dtype)


def _step(rows: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """The next guess, and the mean distance to this one."""
    # One row against all: no matrix of differences is made.
    distances = torch.cdist(rows, guess[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
    spread = distances.mean()
    on_it = distances <= GUARD * spread
    weights = torch.where(on_it, 0.0, 1.0 / distances)
    total = weights.sum()
    if not total > 0:
        return guess, spread  # all rows are one point
    target = (weights @ rows) / total
    pull = (target - guess).norm() * total
    held = (on_it.sum() / pull).clamp(max=1) if on_it.any() else torch.zeros_like(total)
    return target + held * (guess - target), spread
