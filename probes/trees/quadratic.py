"""Squared lengths under a metric: of the difference of two words, and of one word.

With ``d(i, j) = (h_i - h_j)' M (h_i - h_j)`` everything that fitting needs is a product of matrices of
one sentence; differences of pairs, ``[words, words, width]``, are never made.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Form = Literal["distance", "depth"]


def projected(y: Tensor, form: Form) -> Tensor:
    """Squared distances ``[s, t, t]`` or squared lengths ``[s, t]`` of words ``[s, t, rank]``."""
    squares = y.square().sum(-1)
    if form == "depth":
        return squares
    return (squares[:, :, None] + squares[:, None] - 2 * y @ y.mT).clamp_min(0)


def under(h: Tensor, metric: Tensor, form: Form) -> Tensor:
    """The same of words ``[s, t, width]`` under a symmetric metric ``[width, width]``."""
    moved = h @ metric
    squares = (moved * h).sum(-1)
    if form == "depth":
        return squares
    return squares[:, :, None] + squares[:, None] - 2 * moved @ h.mT


def gathered(h: Tensor, residual: Tensor, form: Form) -> Tensor:
    """The adjoint of `under`: ``sum of residual * (h_i - h_j)(h_i - h_j)'``, or of ``h_i h_i'``.

    Args:
        h: ``[s, t, width]``.
        residual: ``[s, t, t]`` symmetric, or ``[s, t]``.
    """
    if form == "depth":
        spread = residual[..., None] * h
    else:
        laplacian = torch.diag_embed(residual.sum(-1)) - residual
        spread = 2 * laplacian @ h
    return h.flatten(0, 1).T @ spread.flatten(0, 1)
