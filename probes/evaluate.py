"""The score of one site: cross-validated by group, with interval, baseline and control.

Every row is predicted by a probe that saw no row of its group. The penalty of each of these probes
is chosen among its own training rows, by holding out one more fold; the control task gets the same
probe with the same penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.controls import (
    control_labels,
    majority_hits,
    seen_in_training,
    training_means,
)
from layerscope.probes.design import Design, Fit
from layerscope.probes.engine import Engine, Solver, engine
from layerscope.probes.intervals import Floats, GroupBootstrap
from layerscope.probes.rows import Plan

CLASS_L2 = (1000.0, 100.0, 10.0, 1.0)
"""Penalties that a logistic probe chooses from, against the summed loss; strongest first."""
NUMBER_L2 = tuple(10.0**power for power in range(5, -2, -1))
"""Penalties that a ridge probe chooses from."""
TUNING_ROWS = 10_000
"""Rows on which logistic penalties are compared: a prior does not depend on how many there are."""
_TUNING_TOL = 1e-4
_TOL = 1e-5


@dataclass(frozen=True)
class Losses:
    """What one task loses on each row, and what the baseline would."""

    loss: Floats  # [rows] misses, or squared errors
    scale: Floats  # [rows] ones, or squared deviations from the mean of the training rows

    @property
    def value(self) -> float:
        """Accuracy or R2."""
        return float(1 - self.loss.sum() / self.scale.sum())


@dataclass
class Measurement:
    """All that the sites of one table share: rows, tasks, baselines, resamples."""

    plan: Plan
    solver: Solver = "auto"
    device: str | None = None
    seed: int = 0
    draws: int = 1000
    control: bool = True
    """Whether to train the control task, where rows are words."""
    unfinished: int = 0
    engines: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        tasks = [plan.values]
        if self.control and plan.types is not None:
            tasks.append(control_labels(plan.types, plan.values, seed=self.seed))
        self.targets = torch.from_numpy(np.stack(tasks))
        self.bootstrap = GroupBootstrap(plan.groups, draws=self.draws, seed=self.seed)
        self.means = [training_means(task.astype(np.float64), plan.bounds) for task in tasks]
        self.baseline = self._baseline()
        self.ceiling = self._ceiling(tasks[1]) if len(tasks) > 1 else float("nan")

    def score(self, site: str, x: Tensor) -> dict[str, Any]:
        """One line of the table.

        Args:
            site: For messages.
            x: ``[rows, width]`` activations in the order of the plan.

        Raises:
            ValueError: activations that are NaN or infinite.
        """
        return self._score(site, x, len(self.targets))

    def twin(self, site: str, x: Tensor) -> dict[str, Any]:
        """The columns of the untrained twin: the same probe on its activations at these rows."""
        line = self._score(f"{site} of the twin", x, 1)
        return {"twin": line["value"], "twin_low": line["ci_low"], "twin_high": line["ci_high"]}

    def _score(self, site: str, x: Tensor, tasks: int) -> dict[str, Any]:
        check_finite(site, x, self.plan.index)
        classes = len(self.plan.classes)
        solver = engine(self.solver, x.numel() * max(1, classes), device=self.device)
        self.engines[str(solver)] = None
        design = Design.of(x, self.plan.bounds, device=solver.device)
        targets = self.targets[:tasks].to(solver.device)
        if classes:
            penalties, predicted = self._classify(solver, design, targets)
        else:
            penalties, predicted = self._regress(solver, design, targets)
        losses = [self._losses(task, guess) for task, guess in enumerate(predicted)]
        return self._line(losses, predicted[0]) | {
            "width": design.width,
            "lambda": median(penalties),
        }

    def _classify(
        self, solver: Engine, design: Design, targets: Tensor
    ) -> tuple[list[float], NDArray[Any]]:
        classes = len(self.plan.classes)
        penalties, start = self._tuned(solver, design, targets[0], classes)
        fits = _fits(penalties, len(targets))
        begin = torch.zeros(len(fits), classes, design.width + 1, device=design.x.device)
        begin[: len(penalties)] = start
        found = solver.logistic(design, targets, fits, classes=classes, tol=_TOL, start=begin)
        self.unfinished += found.unfinished
        scores = _predict(design, fits, found.weights.to(design.x.device), len(targets))
        return penalties, scores.argmax(-1).cpu().numpy()

    def _regress(
        self, solver: Engine, design: Design, targets: Tensor
    ) -> tuple[list[float], NDArray[Any]]:
        folds = design.folds
        trials = [Fit(0, _inner(fold, folds), l2) for fold in folds for l2 in NUMBER_L2]
        weights = solver.ridge(design, targets, trials).weights.to(design.x.device)
        errors: list[list[float]] = [[] for _ in folds]
        for trial, weight in zip(trials, weights, strict=True):
            tested, choosing = trial.without
            missed = design.scores(choosing, weight)[:, 0] - targets[0, design.fold(choosing)]
            errors[tested].append(missed.square().sum().item())
        penalties = [NUMBER_L2[int(np.argmin(error))] for error in errors]
        fits = _fits(penalties, len(targets))
        found = solver.ridge(design, targets, fits)
        guesses = _predict(design, fits, found.weights.to(design.x.device), len(targets))
        return penalties, guesses[..., 0].double().cpu().numpy()

    def _tuned(
        self, solver: Engine, design: Design, target: Tensor, classes: int
    ) -> tuple[list[float], Tensor]:
        """For each fold the penalty of least cross-entropy on the next fold, and its weights.

        Neither the rows of the fold nor the weights trained here have seen each other, so these
        weights are a fair place to start from.
        """
        thin, index = design.thinned(TUNING_ROWS)
        target = target[index]
        entropy, weights, start = [], [], None
        for l2 in CLASS_L2:
            fits = [Fit(0, _inner(fold, design.folds), l2) for fold in design.folds]
            found = solver.logistic(
                thin, target[None], fits, classes=classes, tol=_TUNING_TOL, start=start
            )
            start = found.weights.to(design.x.device)
            weights.append(start)
            entropy.append([_entropy(thin, target, f, w) for f, w in zip(fits, start, strict=True)])
        best = np.argmin(entropy, axis=0)
        chosen = torch.stack([weights[choice][fold] for fold, choice in enumerate(best)])
        return [CLASS_L2[choice] for choice in best], chosen

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

    def _baseline(self) -> float:
        if not self.plan.classes:
            return 0.0
        hits = majority_hits(self.plan.values, self.plan.bounds, len(self.plan.classes))
        return float(hits.mean())

    def _ceiling(self, control: NDArray[Any]) -> float:
        """What remembering the label of every word type of the training rows would score."""
        assert self.plan.types is not None
        seen = seen_in_training(self.plan.types, self.plan.bounds)
        if self.plan.classes:
            return float(
                (seen | majority_hits(control, self.plan.bounds, len(self.plan.classes))).mean()
            )
        scale = (control - self.means[-1]) ** 2
        return float(1 - scale[~seen].sum() / scale.sum())


def check_finite(site: str, x: Tensor, index: NDArray[np.int64]) -> None:
    """Refuse activations that are NaN or infinite, naming the first row of the store."""
    bad = ~x.isfinite().all(1)
    if bad.any():
        rows = index[bad.cpu().numpy()]
        raise ValueError(
            f"{site}: activations of {len(rows):,} of {len(x):,} rows are NaN or infinite, the "
            f"first at row {rows.min()} of the store; look at the model there before probing"
        )


def _inner(fold: int, folds: range) -> tuple[int, int]:
    """The fold that is tested, and the one that chooses the penalty for it."""
    return fold, (fold + 1) % len(folds)


def _fits(penalties: Sequence[float], tasks: int) -> list[Fit]:
    return [Fit(task, (fold,), l2) for task in range(tasks) for fold, l2 in enumerate(penalties)]


def _predict(design: Design, fits: Sequence[Fit], weights: Tensor, tasks: int) -> Tensor:
    """``[tasks, rows, outputs]``: every row by the probe that was trained without its fold."""
    parts: list[list[Tensor]] = [[] for _ in range(tasks)]
    for fit, weight in zip(fits, weights, strict=True):
        parts[fit.target].append(design.scores(fit.without[0], weight))
    return torch.stack([torch.cat(part) for part in parts])


def _entropy(design: Design, target: Tensor, fit: Fit, weights: Tensor) -> float:
    choosing = fit.without[-1]
    scores = design.scores(choosing, weights)
    return torch.nn.functional.cross_entropy(scores, target[design.fold(choosing)]).item()


def _balanced(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> float:
    """Mean over classes of the share of its rows that are found."""
    hits = np.bincount(truth, truth == predicted, minlength=classes)
    return float((hits / np.bincount(truth, minlength=classes)).mean())
