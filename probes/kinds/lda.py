"""Linear discriminant analysis: the difference of means, whitened within classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.kinds.closed_form import NEVER, ClassSums, ClosedForm, Path, class_means
from layerscope.probes.reading.labels import Task

SHRINKAGE = (0.9, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0)
"""Shares of the identity in the covariance that LDA chooses from."""
_DROPPED = 1e-9  # of the largest eigenvalue: directions in which rows do not vary within classes
_LEAST = 1e-6  # of the variance of a feature: what shrinking puts in place of less than that
_NOTHING = 1e-12  # of the variance of a feature: what rounding leaves of no variance at all


@dataclass(frozen=True)
class LDA(ClosedForm):
    """Gaussian classes with one covariance (maximum likelihood), for any number of classes.

    For two classes it is the "iid" mass-mean probe, ``theta @ inverse(covariance)``.
    """

    name = "lda"
    tasks = ("class",)
    rule = (
        "features standardised on training rows; the share of the identity in the covariance by "
        "log-loss on another fold of the training rows (column lambda; 0 is the pseudo-inverse)"
    )

    shrinkage: float | None = None
    """From 0, the covariance as it is (its pseudo-inverse), to 1, none; None chooses it."""

    def estimator(self, task: Task) -> str:
        return "LDA, shrunk covariance"

    def penalties(self) -> tuple[float, ...]:
        return SHRINKAGE if self.shrinkage is None else (self.shrinkage,)

    def paths(self, sums: ClassSums, targets: Sequence[int], without: Sequence[int]) -> list[Path]:
        return [Discriminants(sums, target, without).weights for target in targets]

    def loss(self, scores: Tensor, truth: Tensor) -> float:
        return torch.nn.functional.cross_entropy(scores.double(), truth, reduction="sum").item()


class Discriminants:
    """LDA of one target for every shrinkage, from one eigendecomposition.

    Args:
        sums: Of the rows by class.
        target: Which target.
        without: Folds it must not see.
    """

    def __init__(self, sums: ClassSums, target: int, without: Sequence[int]) -> None:
        spread = sums.design.spread(without)
        varies = spread.scale > 0
        self.unscale = torch.where(varies, 1 / spread.scale.clamp_min(1e-300), 0.0)
        self.center = spread.mean
        totals = sums.kept(target, without)
        self.counts, means = class_means(totals)
        within = sums.design.moments(without)[:-1, :-1] - means.T @ totals[:, :-1]
        within *= torch.outer(self.unscale, self.unscale) / spread.rows
        values, self.vectors = torch.linalg.eigh(within)
        # Where every class is a single point, any covariance will do: the nearest mean decides.
        collapsed = bool(values.max() < _NOTHING)
        self.values = torch.full_like(values, _LEAST) if collapsed else values.clamp_min(0)
        self.means = (means - self.center) * self.unscale
        self.loads = self.means @ self.vectors

    def weights(self, shrinkage: float) -> Tensor:
        """``[classes, width + 1]`` for rows of the design: log posteriors but for a constant."""
        target = self.values.mean().clamp_min(_LEAST)
        values = (1 - shrinkage) * self.values + shrinkage * target
        there = values > _DROPPED * values.max()
        inverse = torch.where(there, 1 / values.clamp_min(1e-300), 0.0)
        standardised = (self.loads * inverse) @ self.vectors.T
        bias = (self.counts / self.counts.sum()).log() - (self.means * standardised).sum(1) / 2
        weights = standardised * self.unscale
        bias = torch.where(self.counts > 0, bias - weights @ self.center, NEVER)
        return torch.cat([weights, bias[:, None]], 1)
