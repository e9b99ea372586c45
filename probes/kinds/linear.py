"""Logistic regression for classes, ridge regression for numbers: the default.

The penalty of each fold's probe is chosen among its own training rows, by holding out one more
fold. Further targets, such as the control task, get the same probe with the same penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.kinds.kind import LabelKind, Predictions, Work
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.engine import Engine

CLASS_L2 = (1000.0, 100.0, 10.0, 1.0)
"""Penalties that a logistic probe chooses from, against the summed loss; strongest first."""
NUMBER_L2 = tuple(10.0**power for power in range(5, -2, -1))
"""Penalties that a ridge probe chooses from."""
TUNING_ROWS = 10_000
"""Rows on which logistic penalties are compared: a prior does not depend on how many there are."""
TOL = 1e-5
"""Nats per row at which accuracy has settled; see docs/probes.md."""
_TUNING_TOL = 1e-4


@dataclass(frozen=True)
class Linear(LabelKind):
    """Multinomial logistic regression for classes, ridge for numbers, both with an L2 penalty."""

    name = "linear"
    tasks = ("class", "number")
    rule = (
        "features standardised on training rows; the penalty of each fold by another fold of its "
        "training rows"
    )

    l2: float | None = None
    """The penalty, on half the squared norm of the weights; None chooses it."""

    def estimator(self, task: Task) -> str:
        return "multinomial logistic, L2" if task == "class" else "ridge"

    def predict(self, work: Work) -> Predictions:
        if work.classes:
            return classify(work.engine, work.design, work.targets, work.classes, self.l2)
        return regress(work.engine, work.design, work.targets, self.l2)

    def fit(self, work: Work, classes: tuple[Any, ...]) -> LinearReadout:
        l2 = self.best_penalty(work, classes)
        weights = _Training(work, classes)([Fit(0, (), l2)])[0]
        return linear_readout(work.design, weights, classes=classes, l2=l2)

    def best_penalty(self, work: Work, classes: tuple[Any, ...]) -> float:
        """The penalty of least held-out loss over all folds, unless it is given."""
        return _Training(work, classes).best() if self.l2 is None else self.l2


def classify(
    engine: Engine,
    design: Design,
    targets: Tensor,
    classes: int,
    l2: float | None = None,
    *,
    only: int | None = None,
) -> Predictions:
    """By multinomial logistic regression.

    Args:
        targets: ``[targets, rows]`` class numbers; the first chooses the penalties.
        l2: One penalty for all folds; None chooses each.
        only: The one fold to predict; None predicts all.
    """
    penalties, start = tuned(engine, design, targets[0], classes, l2, only=only)
    fits = fits_of(penalties, len(targets), only or 0)
    begin = torch.zeros(len(fits), classes, design.width + 1, device=design.x.device)
    begin[: len(penalties)] = start
    found = engine.logistic(design, targets, fits, classes=classes, tol=TOL, start=begin)
    scores = out_of_fold(design, fits, found.weights.to(design.x.device), len(targets))
    return Predictions(scores.argmax(-1).cpu().numpy(), tuple(penalties), found.unfinished)


def regress(
    engine: Engine,
    design: Design,
    targets: Tensor,
    l2: float | None = None,
    *,
    only: int | None = None,
) -> Predictions:
    """By ridge regression.

    Args:
        targets: ``[targets, rows]`` float64; the first chooses the penalties.
        l2: One penalty for all folds; None chooses each.
        only: The one fold to predict; None predicts all.
    """
    tried = NUMBER_L2 if l2 is None else (l2,)
    folds = _asked(design, only)
    trials = [Fit(0, inner(fold, design.folds), l2) for fold in folds for l2 in tried]
    weights = engine.ridge(design, targets, trials).weights.to(design.x.device)
    errors: dict[int, list[float]] = {fold: [] for fold in folds}
    for trial, weight in zip(trials, weights, strict=True):
        tested, choosing = trial.without
        missed = design.scores(choosing, weight)[:, 0] - targets[0, design.fold(choosing)]
        errors[tested].append(missed.square().sum().item())
    penalties = [tried[int(np.argmin(error))] for error in errors.values()]
    fits = fits_of(penalties, len(targets), only or 0)
    weights = engine.ridge(design, targets, fits).weights.to(design.x.device)
    guesses = out_of_fold(design, fits, weights, len(targets))[..., 0]
    return Predictions(guesses.double().cpu().numpy(), tuple(penalties))


def tuned(
    engine: Engine,
    design: Design,
    target: Tensor,
    classes: int,
    l2: float | None,
    *,
    only: int | None = None,
) -> tuple[list[float], Tensor]:
    """For each fold the penalty of least cross-entropy on the next fold, and its weights.

    The weights trained here have not seen the fold that is tested, so they are a fair place to
    start from.
    """
    thin, index = design.thinned(TUNING_ROWS)
    target = target[index]
    entropy, weights, start = [], [], None
    tried = CLASS_L2 if l2 is None else (l2,)
    for strength in tried:
        fits = [Fit(0, inner(fold, design.folds), strength) for fold in _asked(design, only)]
        found = engine.logistic(
            thin, target[None], fits, classes=classes, tol=_TUNING_TOL, start=start
        )
        start = found.weights.to(design.x.device)
        weights.append(start)
        entropy.append([_entropy(thin, target, f, w) for f, w in zip(fits, start, strict=True)])
    best = np.argmin(entropy, axis=0)
    chosen = torch.stack([weights[choice][number] for number, choice in enumerate(best)])
    return [tried[choice] for choice in best], chosen


def inner(fold: int, folds: range) -> tuple[int, int]:
    """The fold that is tested, and the one that chooses the penalty for it."""
    return fold, (fold + 1) % len(folds)


def _asked(design: Design, only: int | None) -> Sequence[int]:
    return design.folds if only is None else (only,)


def fits_of(penalties: Sequence[float], tasks: int, first: int = 0) -> list[Fit]:
    """A fit for each task and penalty; the penalties are those of the folds from `first`."""
    return [
        Fit(task, (fold,), l2) for task in range(tasks) for fold, l2 in enumerate(penalties, first)
    ]


def out_of_fold(design: Design, fits: Sequence[Fit], weights: Tensor, tasks: int) -> Tensor:
    """``[tasks, rows, outputs]``: every row by the probe that was trained without its fold."""
    parts: list[list[Tensor]] = [[] for _ in range(tasks)]
    for fit, weight in zip(fits, weights, strict=True):
        parts[fit.target].append(design.scores(fit.without[0], weight))
    return torch.stack([torch.cat(part) for part in parts])


def _entropy(design: Design, target: Tensor, fit: Fit, weights: Tensor) -> float:
    choosing = fit.without[-1]
    scores = design.scores(choosing, weights)
    return torch.nn.functional.cross_entropy(scores, target[design.fold(choosing)]).item()


@dataclass(frozen=True)
class _Training:
    """Readouts of one target, by whichever solver."""

    work: Work
    classes: tuple[Any, ...]

    def __call__(self, fits: Sequence[Fit], tol: float = 1e-8) -> Tensor:
        engine, design, target = self.work.engine, self.work.design, self.work.targets[:1]
        if self.classes:
            found = engine.logistic(design, target, fits, classes=len(self.classes), tol=tol)
        else:
            found = engine.ridge(design, target, fits)
        return found.weights.to(design.x.device)

    def best(self) -> float:
        """The penalty of least held-out loss, over all folds."""
        penalties = CLASS_L2 if self.classes else NUMBER_L2
        fits = [Fit(0, (fold,), l2) for l2 in penalties for fold in self.work.design.folds]
        losses = [self._loss(f, w) for f, w in zip(fits, self(fits, tol=1e-5), strict=True)]
        total = np.reshape(losses, (len(penalties), -1)).sum(1)
        return penalties[int(total.argmin())]

    def _loss(self, one: Fit, weights: Tensor) -> float:
        held, design = one.without[0], self.work.design
        scores, truth = design.scores(held, weights), self.work.targets[0, design.fold(held)]
        if self.classes:
            return torch.nn.functional.cross_entropy(scores, truth, reduction="sum").item()
        return (scores[:, 0] - truth).square().sum().item()


def linear_readout(
    design: Design, weights: Tensor, *, classes: tuple[Any, ...], l2: float = 0.0
) -> LinearReadout:
    """Weights ``[outputs, width + 1]`` in the design's coordinates, frozen."""
    weights = weights.cpu()
    return LinearReadout(
        weight=weights[:, :-1].contiguous(),
        bias=weights[:, -1].contiguous(),
        mean=design.mean.cpu(),
        scale=design.scale.cpu(),
        classes=classes,
        l2=l2,
    )
