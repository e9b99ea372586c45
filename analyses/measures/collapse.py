"""Scatter between classes against scatter within them: Fisher's ratio, and neural collapse."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 50
_RANK = 1e-10
"""Directions of the class means shorter than this share of the longest count as none."""


class Collapse(NamedTuple):
    """Each ``[draws]``."""

    fisher: Tensor
    """``tr S_b / tr S_w``: 0 where all class means are one, infinite where classes are points."""
    nc1: Tensor
    """``tr(S_w S_b^+) / classes`` (Papyan, Han and Donoho 2020): 0 where classes are points."""


def collapse(x: Tensor, codes: Tensor, weights: Tensor | None = None) -> Collapse:
    """Both ratios for many labellings or weightings of the same rows.

    ``S_w`` is the mean of the classes' covariances and ``S_b`` the covariance of their means, each
    class with equal weight and divided by N. ``S_b^+`` has rank ``classes - 1`` at most, so only the
    projections of the rows on the class means are needed, never a matrix of width x width.

    Args:
        x: ``[rows, width]``
        codes: ``[draws, rows]`` class numbers, or ``[1, rows]``.
        weights: ``[draws, rows]`` how often each row counts.
    """
    x = x.double() - x.double().mean(0)
    draws = len(codes) if weights is None else len(weights)
    codes, classes = codes.expand(draws, -1).to(x.device), int(codes.max()) + 1
    parts = []
    for first in range(0, draws, BLOCK):
        some = slice(first, first + BLOCK)
        share = _shares(codes[some], classes, None if weights is None else weights[some])
        parts.append(_block(x, share))
    fisher, nc1 = (torch.cat(part) for part in zip(*parts, strict=True))
    return Collapse(fisher, nc1)


def _shares(codes: Tensor, classes: int, weights: Tensor | None) -> Tensor:
    """``[draws, rows, classes]`` the weight of each row in its class; a class sums to 1."""
    member = torch.nn.functional.one_hot(codes, classes).double()
    if weights is not None:
        member = member * weights.to(member)[:, :, None]
    return member / member.sum(1, keepdim=True).clamp_min(1e-300)


def _block(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    there = share.sum(1) > 0  # [draws, classes]; a draw may lack a class
    count = there.sum(1).double()
    means = share.transpose(1, 2) @ x
    middle = means.sum(1, keepdim=True) / count[:, None, None]
    apart = (means - middle).masked_fill(~there[:, :, None], 0.0)
    between = apart.square().sum((1, 2)) / count
    row = share.sum(2) / count[:, None]  # [draws, rows] weight in S_w
    within = row @ x.square().sum(1) - means.square().sum((1, 2)) / count
    within = within.clamp_min(0)
    # Singular values of the centred means by their Gram matrix, classes x classes.
    squares, vectors = torch.linalg.eigh(apart @ apart.transpose(1, 2) / count[:, None, None])
    kept = squares > _RANK * squares.amax(1, keepdim=True).clamp_min(1e-300)
    scale = torch.where(kept, (squares.clamp_min(0) * count[:, None]).rsqrt(), 0.0)
    axes = vectors.transpose(1, 2) @ apart * scale[:, :, None]  # [draws, directions, width]
    placed = torch.einsum("nd,brd->bnr", x, axes)
    centres = torch.einsum("bkd,brd->bkr", means, axes)
    spread = (row[:, :, None] * placed.square()).sum(1) - centres.square().sum(1) / count[:, None]
    ratio = torch.where(kept, spread.clamp_min(0) / squares, 0.0).sum(1) / count
    return between / within, ratio
