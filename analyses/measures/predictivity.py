"""Ridge predictivity: how much of one set of features a linear map from another one predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

PENALTIES = tuple(10.0**power for power in range(-6, 5))
"""Tried, times the mean eigenvalue of the second moments."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """Held-out errors of a map to each of several targets."""

    error: Tensor
    """``[rows, targets]`` squared error, summed over the target's features"""
    scale: Tensor
    """``[rows, targets]`` squared distance from the mean of the training rows"""

    @property
    def values(self) -> Tensor:
        """R2 ``[targets]``, features weighted by their variance; below 0 is worse than the mean."""
        return 1 - self.error.sum(0) / self.scale.sum(0)


def predict(x: Tensor, targets: Sequence[Tensor], folds: NDArray[np.int64]) -> Predicted:
    """Cross-validated ridge from ``x [rows, p]`` to each of ``targets [rows, q]``.

    Each fold is predicted by a map that was trained on all the others; its penalty is the one that,
    trained without the next fold too, predicts that fold best.

    Args:
        folds: ``[rows]`` fold of each row, from 0; at least 3.

    Raises:
        ValueError: fewer than 3 folds.
    """
    count = int(folds.max()) + 1
    if count < 3:
        raise ValueError(
            f"ridge predictivity needs at least 3 folds of whole groups, there are {count}"
        )
    number = torch.from_numpy(folds).to(x.device)
    x, together = x.double(), torch.cat([y.double() for y in targets], 1)
    ends = np.cumsum([0, *(y.shape[1] for y in targets)]).tolist()
    error = torch.empty(len(x), len(targets), dtype=torch.float64, device=x.device)
    scale = torch.empty_like(error)
    with full_precision():
        for fold in range(count):
            test, other = number == fold, number == (fold + 1) % count
            path = _Path(x[~test & ~other], together[~test & ~other])
            tried = [
                _per_target(path.errors(x[other], together[other], c), ends) for c in PENALTIES
            ]
            best = torch.stack([part.sum(0) for part in tried]).argmin(0).tolist()
            path = _Path(x[~test], together[~test])
            found = {
                c: _per_target(path.errors(x[test], together[test], PENALTIES[c]), ends)
                for c in set(best)
            }
            error[test] = torch.stack([found[c][:, m] for m, c in enumerate(best)], 1)
            scale[test] = _per_target((together[test] - path.center).square(), ends)
    return Predicted(error, scale)


class _Path:
    """Ridge for every penalty, from one eigendecomposition."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.mean, self.center = x.mean(0), y.mean(0)
        x = x - self.mean
        self.values, self.vectors = torch.linalg.eigh(x.T @ x)
        self.loads = self.vectors.T @ (x.T @ (y - self.center))
        self.unit = self.values.clamp_min(0).mean().clamp_min(1e-300)

    def errors(self, x: Tensor, y: Tensor, penalty: float) -> Tensor:
        """Squared errors ``[rows, features]`` on other rows."""
        inner = self.loads / (self.values.clamp_min(0) + penalty * self.unit)[:, None]
        found: Tensor = (y - self.center - (x - self.mean) @ self.vectors @ inner).square()
        return found


def _per_target(squares: Tensor, ends: Sequence[int]) -> Tensor:
    """Sums over the features of each target, ``[rows, targets]``."""
    return torch.stack([squares[:, a:b].sum(1) for a, b in pairwise(ends)], 1)
