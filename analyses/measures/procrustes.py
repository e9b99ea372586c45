"""Procrustes distance: what is left between two clouds after the best rotation and one scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import acos

import torch
from torch import Tensor

from layerscope.analyses.measures.cka import centred


@dataclass(frozen=True, eq=False)
class Fit:
    """The best rotation of one cloud onto another, both centred and of norm 1."""

    overlap: float
    """Nuclear norm of ``x.T @ y``, 0 to 1"""
    rows: Tensor
    """``[rows]`` what each row adds to the overlap"""

    @property
    def distance(self) -> float:
        """Squared distance ``2 - 2 * overlap``: 0 for a rotated and rescaled copy, at most 2."""
        return 2 - 2 * self.overlap

    @property
    def angle(self) -> float:
        """Angular shape distance ``acos(overlap)`` (Williams et al. 2021): a metric, 0 to pi/2."""
        return acos(min(1.0, max(-1.0, self.overlap)))


def unit(x: Tensor) -> Tensor:
    """Rows centred, in float64, all together of norm 1; zero where they do not vary."""
    x = centred(x)
    norm = x.norm()
    return x / norm if norm > 0 else x


def fit(x: Tensor, y: Tensor) -> Fit:
    """Rotate ``y [rows, q]`` onto ``x [rows, p]``; both as `unit` makes them."""
    u, s, v = torch.linalg.svd(x.T @ y, full_matrices=False)
    return Fit(float(s.sum()), ((x @ u) * (y @ v.T)).sum(1))


def overlap(x: Tensor, y: Tensor) -> float:
    """Nuclear norm of ``x.T @ y`` alone; both as `unit` makes them."""
    return float(torch.linalg.svdvals(x.T @ y).sum())
