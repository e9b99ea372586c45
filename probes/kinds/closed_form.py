"""Kinds whose weights follow from sums over the rows: no steps, no seed, one pass.

What they share is how a penalty is chosen: every penalty's weights come from one decomposition of
the training rows, so a whole path costs little more than one of its points.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.kinds.kind import LabelKind, Predictions, Work
from layerscope.probes.kinds.linear import inner, linear_readout
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine
from layerscope.probes.solving.solver import full_precision

Path = Callable[[float], Tensor]
"""Penalty -> weights ``[classes, width + 1]`` in the coordinates of the design, float64."""

NEVER = -1e12
"""Bias of a class that none of the training rows has."""


@dataclass(frozen=True)
class ClassSums:
    """Sums of the rows of each class, which with the design's second moments are all that is needed."""

    design: Design
    targets: Tensor
    """``[targets, rows]`` class numbers."""
    classes: int

    def kept(self, target: int, without: Sequence[int] = ()) -> Tensor:
        """``[classes, width + 1]`` over the rows of the other folds; the last column counts them."""
        parts = self._by_fold
        return sum(
            (parts[target, fold] for fold in self.design.folds if fold not in without),
            start=torch.zeros_like(parts[0, 0]),
        )

    @cached_property
    def _by_fold(self) -> Tensor:
        """``[targets, folds, classes, width + 1]`` float64."""
        design = self.design
        shape = (len(self.targets), len(design.folds), self.classes, design.width + 1)
        sums = torch.zeros(shape, dtype=torch.float64, device=design.x.device)
        for fold in design.folds:
            for chunk in design.chunks(fold):
                rows = design.x[chunk].double()
                for target, codes in enumerate(self.targets):
                    one_hot = torch.nn.functional.one_hot(codes[chunk], self.classes)
                    sums[target, fold] += one_hot.double().T @ rows
        return sums


class ClosedForm(LabelKind):
    """Weights from sums alone; the penalty by the next fold of the training rows."""

    @abstractmethod
    def penalties(self) -> tuple[float, ...]:
        """Strengths to choose from, strongest first; a single one is taken without trial."""

    @abstractmethod
    def paths(self, sums: ClassSums, targets: Sequence[int], without: Sequence[int]) -> list[Path]:
        """The weights of each target along the penalties, trained without these folds."""

    @abstractmethod
    def loss(self, scores: Tensor, truth: Tensor) -> float:
        """Summed over rows: what the choice of the penalty makes least."""

    def solved_by(self, engine: Engine, task: Task) -> str:
        return f"closed form, torch on {engine.device}"

    def predict(self, work: Work) -> Predictions:
        design = work.design
        sums = ClassSums(design, work.targets, work.classes)
        targets = range(len(work.targets))
        parts: list[list[Tensor]] = [[] for _ in targets]
        chosen = []
        with full_precision():
            for fold in design.folds:
                chosen.append(self._chosen(work, sums, fold))
                for target, path in zip(targets, self.paths(sums, targets, (fold,)), strict=True):
                    scores = design.scores(fold, path(chosen[-1]).float())
                    parts[target].append(scores.argmax(-1))
        values = torch.stack([torch.cat(part) for part in parts]).cpu().numpy()
        return Predictions(values, tuple(chosen) if len(self.penalties()) > 1 else ())

    def fit(self, work: Work, classes: tuple[Any, ...]) -> LinearReadout:
        sums = ClassSums(work.design, work.targets[:1], work.classes)
        with full_precision():
            trials = [self._losses(work, sums, (fold,), fold) for fold in work.design.folds]
            penalty = self.penalties()[int(np.sum(trials, axis=0).argmin())]
            (path,) = self.paths(sums, [0], ())
            weights = path(penalty).float()
        return linear_readout(work.design, weights, classes=classes, l2=penalty)

    def _chosen(self, work: Work, sums: ClassSums, fold: int) -> float:
        """The penalty for the probe that must not see this fold."""
        without = inner(fold, work.design.folds)
        return self.penalties()[int(np.argmin(self._losses(work, sums, without, without[1])))]

    def _losses(
        self, work: Work, sums: ClassSums, without: Sequence[int], held: int
    ) -> list[float]:
        """Of each penalty on one held-out fold."""
        if len(self.penalties()) == 1:
            return [0.0]
        (path,) = self.paths(sums, [0], without)
        truth = work.targets[0, work.design.fold(held)]
        return [
            self.loss(work.design.scores(held, path(penalty).float()), truth)
            for penalty in self.penalties()
        ]


def class_means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[classes]`` and mean ``[classes, width]`` of each class; 0 for a class without rows."""
    counts = sums[:, -1]
    return counts, sums[:, :-1] / counts.clamp_min(1)[:, None]
