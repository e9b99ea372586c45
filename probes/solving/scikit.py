"""The same probes by scikit-learn, one fit after the other: for small data, and as a second opinion.

Objectives are those of `solver`: the summed loss plus ``l2 / 2`` times the squared norm of the
weights of standardised features, bias free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.solver import Solution


def logistic(
    design: Design,
    targets: Tensor,
    fits: Sequence[Fit],
    *,
    classes: int,
    tol: float = 1e-5,
    max_steps: int = 1000,
) -> Solution:
    """As `solver.logistic`, by `sklearn.linear_model.LogisticRegression` (L-BFGS)."""
    solved = [_logistic(design, targets, fit, classes, tol, max_steps) for fit in fits]
    weights = torch.stack([weights for weights, _ in solved])
    steps = [steps for _, steps in solved]
    return Solution(weights, max(steps), sum(count >= max_steps for count in steps))


def ridge(design: Design, targets: Tensor, fits: Sequence[Fit]) -> Solution:
    """As `solver.ridge`, by `sklearn.linear_model.Ridge`."""
    from sklearn.linear_model import Ridge

    found = []
    for fit in fits:
        x, y, mean, scale = _training(design, targets, fit)
        model = Ridge(alpha=fit.l2).fit(x, y)
        found.append(_in_design(model.coef_[None], np.array([model.intercept_]), mean, scale))
    return Solution(torch.stack(found), steps=1)


def _logistic(
    design: Design, targets: Tensor, fit: Fit, classes: int, tol: float, max_steps: int
) -> tuple[Tensor, int]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, y, mean, scale = _training(design, targets, fit)
    full = torch.zeros(classes, design.width + 1)
    there = np.unique(y)
    # A class that none of the training rows has is never predicted.
    full[:, -1] = -1e6
    full[there[0], -1] = 0.0
    if len(there) == 1:
        return full, 0
    # Two classes are one weight vector in scikit-learn and two opposite halves of it here.
    strength = fit.l2 / 2 if len(there) == 2 else fit.l2
    model = LogisticRegression(C=1 / strength, tol=tol, max_iter=max_steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(there) == 2:
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.stack([-intercepts[0], intercepts[0]]) / 2
    full[torch.from_numpy(there)] = _in_design(coefficients, intercepts, mean, scale)
    return full, int(model.n_iter_.max())


def _training(
    design: Design, targets: Tensor, fit: Fit
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Standardised training rows, their targets, and what they were standardised by."""
    kept = [design.fold(fold) for fold in design.folds if fold not in fit.without]
    x = torch.cat([design.x[part, :-1] for part in kept]).double().cpu().numpy()
    y = torch.cat([targets[fit.target, part] for part in kept]).cpu().numpy()
    spread = design.spread(fit.without)
    mean, scale = spread.mean.cpu().numpy(), spread.scale.cpu().numpy()
    scale = np.where(scale > 0, scale, np.inf)
    return (x - mean) / scale, y, mean, scale


def _in_design(
    coefficients: NDArray[Any], intercepts: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]
) -> Tensor:
    weights = coefficients / scale
    bias = intercepts - weights @ mean
    return torch.from_numpy(np.concatenate([weights, bias[:, None]], axis=1)).float()
