"""Out-of-fold predictions: every row by a probe that saw no row of its fold.

The penalty of each of these probes is chosen among its own training rows, by holding out one more
fold. Further targets, such as the control task, get the same probe with the same penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.design import Design, Fit
from layerscope.probes.engine import Engine

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
class Predictions:
    """What the probes say about rows that they did not see."""

    values: NDArray[Any]
    """``[targets, rows]`` class numbers, or numbers."""
    penalties: tuple[float, ...]
    """The one chosen for each fold."""
    unfinished: int = 0
    """Probes that stopped before they had converged."""


def classify(engine: Engine, design: Design, targets: Tensor, classes: int) -> Predictions:
    """By multinomial logistic regression.

    Args:
        targets: ``[targets, rows]`` class numbers; the first chooses the penalties.
    """
    penalties, start = _tuned(engine, design, targets[0], classes)
    fits = _fits(penalties, len(targets))
    begin = torch.zeros(len(fits), classes, design.width + 1, device=design.x.device)
    begin[: len(penalties)] = start
    found = engine.logistic(design, targets, fits, classes=classes, tol=TOL, start=begin)
    scores = _predict(design, fits, found.weights.to(design.x.device), len(targets))
    return Predictions(scores.argmax(-1).cpu().numpy(), tuple(penalties), found.unfinished)


def regress(engine: Engine, design: Design, targets: Tensor) -> Predictions:
    """By ridge regression.

    Args:
        targets: ``[targets, rows]`` float64; the first chooses the penalties.
    """
    trials = [Fit(0, _inner(fold, design.folds), l2) for fold in design.folds for l2 in NUMBER_L2]
    weights = engine.ridge(design, targets, trials).weights.to(design.x.device)
    errors: list[list[float]] = [[] for _ in design.folds]
    for trial, weight in zip(trials, weights, strict=True):
        tested, choosing = trial.without
        missed = design.scores(choosing, weight)[:, 0] - targets[0, design.fold(choosing)]
        errors[tested].append(missed.square().sum().item())
    penalties = [NUMBER_L2[int(np.argmin(error))] for error in errors]
    fits = _fits(penalties, len(targets))
    weights = engine.ridge(design, targets, fits).weights.to(design.x.device)
    guesses = _predict(design, fits, weights, len(targets))[..., 0]
    return Predictions(guesses.double().cpu().numpy(), tuple(penalties))


def _tuned(
    engine: Engine, design: Design, target: Tensor, classes: int
) -> tuple[list[float], Tensor]:
    """For each fold the penalty of least cross-entropy on the next fold, and its weights.

    The weights trained here have not seen the fold that is tested, so they are a fair place to
    start from.
    """
    thin, index = design.thinned(TUNING_ROWS)
    target = target[index]
    entropy, weights, start = [], [], None
    for l2 in CLASS_L2:
        fits = [Fit(0, _inner(fold, design.folds), l2) for fold in design.folds]
        found = engine.logistic(
            thin, target[None], fits, classes=classes, tol=_TUNING_TOL, start=start
        )
        start = found.weights.to(design.x.device)
        weights.append(start)
        entropy.append([_entropy(thin, target, f, w) for f, w in zip(fits, start, strict=True)])
    best = np.argmin(entropy, axis=0)
    chosen = torch.stack([weights[choice][fold] for fold, choice in enumerate(best)])
    return [CLASS_L2[choice] for choice in best], chosen


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
