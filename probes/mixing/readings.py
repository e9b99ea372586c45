"""What linear probes of several representations of the same rows miss, row by row, to compare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.kind import Predictions
from layerscope.probes.kinds.linear import classify, regress
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.controls import control_labels, majority_hits, training_means
from layerscope.probes.scoring.evaluate import Losses, check_finite
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine, Solver, engine


@dataclass(frozen=True)
class Reading:
    """One representation, read by cross-validation."""

    losses: list[Losses]
    """Of the label, and of the control task where it was asked for."""
    penalties: tuple[float, ...]
    """Of each fold."""
    width: int


@dataclass(frozen=True)
class Readings:
    """All that the representations share: rows, folds, tasks, resamples."""

    plan: Plan
    types: NDArray[np.int64] | None
    """``[rows]`` what gets one random label each in the control task; None: no control task."""
    solver: Solver = "auto"
    device: str | None = None
    seed: int = 0

    @cached_property
    def targets(self) -> Tensor:
        """``[tasks, rows]``: the label, and the control task where there is one."""
        tasks = [self.plan.values]
        if self.types is not None:
            tasks.append(control_labels(self.types, self.plan.values, seed=self.seed))
        return torch.from_numpy(np.stack(tasks))

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.plan.groups, seed=self.seed)

    @cached_property
    def baseline(self) -> float:
        """What guessing from the training labels alone would score."""
        if not self.plan.classes:
            return 0.0
        hits = majority_hits(self.plan.values, self.plan.bounds, len(self.plan.classes))
        return float(hits.mean())

    @cached_property
    def scales(self) -> list[NDArray[np.float64]]:
        """For each task ``[rows]``: ones, or squared deviations from the training mean."""
        tasks = self.targets.numpy()
        if self.plan.classes:
            return [np.ones(len(task)) for task in tasks]
        return [(task - training_means(task, self.plan.bounds)) ** 2 for task in tasks]

    def by(self, width: int) -> Engine:
        """Who solves, for rows of this width."""
        work = len(self.plan.index) * width * max(1, len(self.plan.classes))
        solver: Solver = "torch" if self.solver == "auto" else self.solver
        return engine(solver, work, device=self.device)

    def read(self, name: str, x: Tensor, tasks: int | None = None) -> Reading:
        """A linear probe of ``[rows, width]`` in the order of the plan.

        Raises:
            ValueError: activations that are NaN or infinite.
        """
        check_finite(name, x, self.plan.index)
        found = self._predictions(x, tasks)
        return self._reading(found.values, found.penalties, x.shape[1])

    def read_by_fold(
        self, name: str, x_of: Callable[[slice], Tensor], tasks: int | None = None
    ) -> Reading:
        """As `read`, where what represents a row is learnt from the training rows of each fold.

        Args:
            x_of: The rows that are held out -> ``[rows, width]`` of all rows, learnt from the others.
        """
        parts, width = [], 0
        penalties: list[float] = []
        for fold in range(self.plan.folds):
            x = x_of(slice(self.plan.bounds[fold], self.plan.bounds[fold + 1]))
            check_finite(name, x, self.plan.index)
            found = self._predictions(x, tasks, fold)
            parts.append(found.values)
            penalties += found.penalties
            width = x.shape[1]
        return self._reading(np.concatenate(parts, 1), tuple(penalties), width)

    def _predictions(self, x: Tensor, tasks: int | None, only: int | None = None) -> Predictions:
        by = self.by(x.shape[1])
        design = Design.of(x, self.plan.bounds, device=by.device)
        targets = self.targets[:tasks].to(by.device)
        if self.plan.classes:
            return classify(by, design, targets, len(self.plan.classes), only=only)
        return regress(by, design, targets, only=only)

    def _reading(self, values: NDArray[Any], penalties: tuple[float, ...], width: int) -> Reading:
        losses = [self.losses(task, guess) for task, guess in enumerate(values)]
        return Reading(losses, penalties, width)

    def losses(self, task: int, predicted: NDArray[Any]) -> Losses:
        """Of predictions ``[rows]``: class numbers, or numbers."""
        truth = self.targets[task].numpy()
        if self.plan.classes:
            return Losses((predicted != truth).astype(np.float64), self.scales[task])
        return Losses((truth - predicted) ** 2, self.scales[task])

    def line(self, reading: Reading) -> dict[str, Any]:
        """Its columns."""
        task = reading.losses[0]
        low, high = self.bootstrap.ratio(task.loss, task.scale)
        line: dict[str, Any] = {"value": task.value, "ci_low": low, "ci_high": high}
        if len(reading.losses) > 1:
            control = reading.losses[1]
            low, high = self.bootstrap.ratio(control.loss, control.scale)
            line |= {"control": control.value, "control_low": low, "control_high": high}
            line["selectivity"] = task.value - control.value
        if reading.penalties:
            line["lambda"] = float(np.median(reading.penalties))
        return line | {"width": reading.width}

    def gain(self, ours: Losses, theirs: Losses) -> dict[str, float]:
        """How much better than another representation on the same rows, with a paired interval."""
        groups, count = self.plan.groups, self.bootstrap.count
        sums = np.stack(
            [np.bincount(groups, x, count) for x in (ours.loss, theirs.loss, ours.scale)], 1
        )
        drawn = self.bootstrap.times.astype(np.float64) @ sums
        low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / drawn[:, 2], [2.5, 97.5])
        return {"gain": ours.value - theirs.value, "gain_low": float(low), "gain_high": float(high)}

    def shared(self) -> dict[str, Any]:
        """Columns that are the same on every line."""
        return {
            "label": self.plan.label,
            "baseline": self.baseline,
            "n": len(self.plan.index),
            "n_groups": self.bootstrap.count,
            "unit": "accuracy" if self.plan.classes else "R2",
        }
