"""The score of one site: cross-validated by group, with interval, baseline and control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.kind import Further, LabelKind, Work
from layerscope.probes.kinds.linear import Linear
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.controls import (
    control_labels,
    majority_hits,
    seen_in_training,
    training_means,
)
from layerscope.probes.scoring.intervals import Floats, GroupBootstrap
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Solver, engine

Designs = dict[str, Design]
"""Device -> the rows of one site."""


@dataclass(frozen=True)
class Losses:
    """What one task loses on each row, and what the baseline would."""

    loss: Floats  # [rows] misses, or squared errors
    scale: Floats  # [rows] ones, or squared deviations from the mean of the training rows

    @property
    def value(self) -> float:
        """Accuracy or R2."""
        return float(1 - self.loss.sum() / self.scale.sum())


@dataclass(frozen=True)
class Measurement:
    """All that the sites of one table share: rows, tasks, baselines, resamples."""

    plan: Plan
    kind: LabelKind = field(default_factory=Linear)
    solver: Solver = "auto"
    device: str | None = None
    seed: int = 0
    draws: int = 1000
    control: bool = True
    """Whether to train the control task, where rows are words."""
    further: Further | None = None
    """The other label that the kind asks for, on the rows of the plan."""

    @cached_property
    def targets(self) -> Tensor:
        """``[tasks, rows]``: the label, and the control task where there is one."""
        tasks = [self.plan.values]
        if self.control and self.plan.types is not None:
            tasks.append(control_labels(self.plan.types, self.plan.values, seed=self.seed))
        return torch.from_numpy(np.stack(tasks))

    @cached_property
    def means(self) -> list[Floats]:
        """For each task ``[rows]``: what guessing the training mean would predict."""
        tasks = self.targets.numpy().astype(np.float64)
        return [training_means(task, self.plan.bounds) for task in tasks]

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.plan.groups, draws=self.draws, seed=self.seed)

    @cached_property
    def baseline(self) -> float:
        """What guessing from the training labels alone would score."""
        if not self.plan.classes:
            return 0.0
        hits = majority_hits(self.plan.values, self.plan.bounds, len(self.plan.classes))
        return float(hits.mean())

    @cached_property
    def ceiling(self) -> float:
        """What remembering the label of every word type of the training rows would score."""
        plan = self.plan
        if plan.types is None or len(self.targets) < 2:
            return float("nan")
        control = self.targets[1].numpy()
        seen = seen_in_training(plan.types, plan.bounds)
        if plan.classes:
            hits = seen | majority_hits(control, plan.bounds, len(plan.classes))
            return float(hits.mean())
        scale = (control - self.means[1]) ** 2
        return float(1 - scale[~seen].sum() / scale.sum())

    def score(self, site: str, x: Tensor, designs: Designs | None = None) -> dict[str, Any]:
        """One line of the table.

        Args:
            site: For messages.
            x: ``[rows, width]`` activations in the order of the plan.
            designs: The same rows as they are already laid out, by device; filled where they are
                not.

        Raises:
            ValueError: activations that are NaN or infinite.
        """
        return self._score(site, x, len(self.targets), designs)

    def twin(self, site: str, x: Tensor, designs: Designs | None = None) -> dict[str, Any]:
        """The columns of the untrained twin: the same probe on its activations at these rows."""
        line = self._score(f"{site} of the twin", x, 1, designs)
        return {"twin": line["value"], "twin_low": line["ci_low"], "twin_high": line["ci_high"]}

    def _score(self, site: str, x: Tensor, tasks: int, designs: Designs | None) -> dict[str, Any]:
        plan, classes = self.plan, len(self.plan.classes)
        solver = engine(self.solver, x.numel() * max(1, classes), device=self.device)
        designs = {} if designs is None else designs
        if solver.device not in designs:
            check_finite(site, x, plan.index)
            designs[solver.device] = Design.of(x, plan.bounds, device=solver.device)
        design = designs[solver.device]
        targets = self.targets[:tasks].to(solver.device)
        work = Work(
            design, targets, classes, solver, plan.groups, self.seed, plan.index, self.further
        )
        found = self.kind.predict(work)
        losses = [self._losses(task, guess) for task, guess in enumerate(found.values)]
        return (
            self._line(losses, found.values[0])
            | dict(found.columns)
            | {
                "width": design.width,
                "lambda": median(found.penalties) if found.penalties else float("nan"),
                "solver": self.kind.solved_by(solver, plan.task),
                "unfinished": found.unfinished,
            }
        )

    def _losses(self, task: int, predicted: NDArray[Any]) -> Losses:
        truth = self.targets[task].numpy()
        if self.plan.classes:
            return Losses((predicted != truth).astype(np.float64), np.ones(len(truth)))
        return Losses((truth - predicted) ** 2, (truth - self.means[task]) ** 2)

    def _line(self, losses: Sequence[Losses], predicted: NDArray[Any]) -> dict[str, Any]:
        plan, task = self.plan, losses[0]
        low, high = self.bootstrap.ratio(task.loss, task.scale)
        line: dict[str, Any] = {"value": task.value, "ci_low": low, "ci_high": high}
        if plan.classes:
            line["balanced"] = _balanced(plan.values, predicted, len(plan.classes))
        line["baseline"] = self.baseline
        if len(losses) > 1:
            control = losses[1]
            low, high = self.bootstrap.ratio(control.loss, control.scale)
            line |= {"control": control.value, "control_low": low, "control_high": high}
            line |= {"ceiling": self.ceiling, "selectivity": task.value - control.value}
        return line


def check_finite(site: str, x: Tensor, index: NDArray[np.int64]) -> None:
    """Refuse activations that are NaN or infinite, naming the first row of the store."""
    bad = ~x.isfinite().all(1)
    if bad.any():
        rows = index[bad.cpu().numpy()]
        raise ValueError(
            f"{site}: activations of {len(rows):,} of {len(x):,} rows are NaN or infinite, the "
            f"first at row {rows.min()} of the store; look at the model there before probing"
        )


def _balanced(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> float:
    """Mean over classes of the share of its rows that are found."""
    hits = np.bincount(truth, truth == predicted, minlength=classes)
    return float((hits / np.bincount(truth, minlength=classes)).mean())
