"""INLP (Ravfogel et al. 2020): train a linear probe, project out what it reads, and again.

Kept for comparison: LEACE takes the same away in one step of rank classes - 1. Projections are made
from one orthonormal basis, extended by QR; products of projections would drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.erasers.directions import projection
from layerscope.probes.erasers.eraser import Eraser
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.engine import Solver, engine

STEPS = 20
"""Probes that are trained at most."""


def inlp(
    x: Tensor,
    y: NDArray[Any],
    dev: NDArray[np.bool_],
    *,
    classes: int,
    steps: int = STEPS,
    l2: float = 1.0,
    solver: Solver = "auto",
    site: str = "",
    label: str = "",
    about: dict[str, Any] | None = None,
) -> Eraser:
    """Iterative null-space projection, until a new probe does no better than the majority.

    Args:
        x: ``[rows, width]``.
        y: ``[rows]`` class numbers, or numbers where `classes` is 0 (ridge; until R2 is 0).
        dev: ``[rows]`` which rows are kept from training, to see when to stop.
        steps: Probes at most.
        l2: Their penalty, on standardised features against the summed loss.

    Returns:
        An eraser whose ``about["scores"]`` are the scores on the dev rows before each projection
        and after the last: accuracy, or R2; ``about["reached"]`` whether they came to the baseline.
    """
    order = np.argsort(dev, kind="stable")
    rows, values = x[torch.from_numpy(order)].double().cpu(), y[order]
    cut = int((~dev).sum())
    center = rows[:cut].mean(0)
    rows = rows - center
    basis = torch.zeros(rows.shape[1], 0, dtype=torch.float64)
    enough = _enough(values[:cut], values[cut:], classes)
    scores: list[float] = []
    for _ in range(steps + 1):
        left = rows - (rows @ basis) @ basis.T
        score, weight = _probe(left, values, (0, cut, len(rows)), classes, l2, solver)
        scores.append(score)
        if score <= enough or len(scores) > steps or basis.shape[1] == rows.shape[1]:
            break
        basis = _extended(basis, weight, max(1, classes - 1))
    words = {"rows": cut, "scores": scores, "enough": enough, "reached": scores[-1] <= enough}
    return projection(basis, center, "inlp", site=site, label=label, about=words | (about or {}))


def _enough(train: NDArray[Any], dev: NDArray[Any], classes: int) -> float:
    """Accuracy of the majority class, and one standard error of it; R2 of 0."""
    if not classes:
        return 0.0
    majority = float((dev == np.bincount(train, minlength=classes).argmax()).mean())
    return majority + float(np.sqrt(majority * (1 - majority) / len(dev)))


def _probe(
    rows: Tensor,
    values: NDArray[Any],
    bounds: Sequence[int],
    classes: int,
    l2: float,
    solver: Solver,
) -> tuple[float, Tensor]:
    """Score on the second fold, and weights ``[outputs, width]`` in the coordinates of the rows."""
    chosen = engine(solver, rows.numel() * max(1, classes))
    design = Design.of(rows, bounds, device=chosen.device)
    target = torch.from_numpy(values).to(chosen.device)
    one = [Fit(0, (1,), l2)]
    if classes:
        found = chosen.logistic(design, target[None], one, classes=classes, tol=1e-6)
    else:
        found = chosen.ridge(design, target[None].double(), one)
    weights = found.weights[0].to(design.x.device)
    guess, truth = design.scores(1, weights), target[design.fold(1)]
    if classes:
        score = float((guess.argmax(1) == truth).double().mean())
    else:
        missed = (guess[:, 0].double() - truth).square().sum()
        score = float(1 - missed / (truth - target[design.fold(0)].double().mean()).square().sum())
    return score, (weights[:, :-1] / design.scale).double().cpu()


def _extended(basis: Tensor, weight: Tensor, rank: int) -> Tensor:
    """`basis` and the `rank` strongest directions of the weights outside it, orthonormal."""
    outside = (weight - (weight @ basis) @ basis.T).T
    left, strengths, _ = torch.linalg.svd(outside, full_matrices=False)
    new = left[:, : min(rank, basis.shape[0] - basis.shape[1])]
    new = new[:, strengths[: new.shape[1]] > 1e-10 * strengths[0].clamp_min(1e-300)]
    whole: Tensor = torch.linalg.qr(torch.cat([basis, new], dim=1))[0]
    return whole
