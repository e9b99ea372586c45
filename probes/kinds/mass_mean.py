"""Nearest class mean: the difference of means as a probe (Marks and Tegmark 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.kinds.closed_form import NEVER, ClassSums, ClosedForm, Path, class_means
from layerscope.probes.reading.labels import Task


@dataclass(frozen=True)
class _Always:
    """The same weights at every penalty."""

    weights: Tensor

    def __call__(self, penalty: float) -> Tensor:
        return self.weights


@dataclass(frozen=True)
class MassMean(ClosedForm):
    """The class whose mean is nearest, in Euclidean distance of the model's own coordinates.

    For two classes this is the sign of ``(x - midpoint) @ theta`` with ``theta`` the difference of
    the class means. Nothing is tuned and correlations between features are not looked at, so the
    directions are often those that change a model's behaviour when they are added to its states.
    """

    name = "mass_mean"
    tasks = ("class",)
    rule = "features as they are, not scaled; nothing is tuned"

    def estimator(self, task: Task) -> str:
        return "mass-mean"

    def penalties(self) -> tuple[float, ...]:
        return (0.0,)

    def paths(self, sums: ClassSums, targets: Sequence[int], without: Sequence[int]) -> list[Path]:
        return [_Always(self._weights(sums, target, without)) for target in targets]

    def loss(self, scores: Tensor, truth: Tensor) -> float:
        return 0.0

    @staticmethod
    def _weights(sums: ClassSums, target: int, without: Sequence[int]) -> Tensor:
        """``|x - mean|**2`` less what all classes share, halved, with the sign of a score."""
        metric = sums.design.scale.double().square()  # from standardised features to the model's
        counts, means = class_means(sums.kept(target, without))
        bias = -(metric * means.square()).sum(1) / 2
        bias = bias.masked_fill(counts == 0, NEVER * metric.sum().clamp_min(1).item())
        return torch.cat([metric * means, bias[:, None]], 1)
