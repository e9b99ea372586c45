"""Probabilities of the classes of every row, by probes that never saw its group, calibrated.

What finds mislabelled rows and failing slices needs probabilities, not class numbers, and fair
ones: rows that a probe was trained on look right even where they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.linear import TOL, fits_of, inner, tuned
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine

_WARMEST = log(50.0)


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Out-of-fold class probabilities of the rows of one site."""

    values: NDArray[np.float64]
    """``[rows, classes]``; rows sum to 1."""
    penalties: tuple[float, ...]
    """Of each fold's probe."""
    temperatures: tuple[float, ...]
    """What each fold's scores were divided by; above 1: the probe was too sure of itself."""
    unfinished: int = 0
    """Probes that stopped before they had converged."""


def out_of_fold_probabilities(
    design: Design,
    target: Tensor,
    classes: int,
    engine: Engine,
    *,
    l2: float | None = None,
    scaled: bool = True,
) -> Probabilities:
    """Multinomial logistic regression, each row by a probe that was trained without its fold.

    For every fold one more fold of the training rows is held out first: it chooses the penalty and
    fits the temperature (Guo et al. 2017), so neither has seen the rows that are predicted. What it
    fits is how far apart scores may lie; the probe that is then fitted with that fold may have
    larger ones, where there is little to learn many times larger, and is brought to that spread.

    Args:
        design: Rows sorted by fold; at least 3 folds.
        target: ``[rows]`` class numbers, on the design's device.
        l2: One penalty for all folds, against the summed loss; None chooses each.
        scaled: Whether to divide scores by the temperature.
    """
    penalties, start = tuned(engine, design, target, classes, l2)
    fits = fits_of(penalties, 1)
    found = engine.logistic(design, target[None], fits, classes=classes, tol=TOL, start=start)
    weights = found.weights.to(design.x.device)
    scores = [design.scores(fold, weights[fold]).double() for fold in design.folds]
    warm = [1.0] * len(fits)
    if scaled:
        for fold, weight in zip(design.folds, start, strict=True):
            choosing = inner(fold, design.folds)[1]
            held_out = design.scores(choosing, weight).double()
            wider = spread(scores[fold]) / (spread(held_out) or 1.0)
            warm[fold] = temperature(held_out, target[design.fold(choosing)]) * (wider or 1.0)
    parts = [(scores[fold] / warm[fold]).softmax(-1) for fold in design.folds]
    return Probabilities(
        values=torch.cat(parts).cpu().numpy(),
        penalties=tuple(penalties),
        temperatures=tuple(warm),
        unfinished=found.unfinished,
    )


def spread(scores: Tensor) -> float:
    """Root mean square of scores ``[rows, classes]`` around each row's mean, which tells nothing."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred.square().mean().sqrt().item()


def temperature(scores: Tensor, truth: Tensor) -> float:
    """What to divide scores ``[rows, classes]`` by for the least cross-entropy: 0.02 to 50.

    The loss is convex in 1 / temperature, so it has one minimum along the logarithm, too.
    """
    wide = scores.double()

    def loss(logarithm: float) -> float:
        return torch.nn.functional.cross_entropy(wide * exp(-logarithm), truth).item()

    low, high = -_WARMEST, _WARMEST
    for _ in range(40):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if loss(a) <= loss(b) else (a, high)
    return exp((low + high) / 2)
