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
    """As `solver.ridge`, by `sklearn.linear_model.Ridge`: fits that see the same rows in one call."""
    from sklearn.linear_model import Ridge

    weights = torch.empty(len(fits), 1, design.width + 1)
    for without in dict.fromkeys(fit.without for fit in fits):
        here = [number for number, fit in enumerate(fits) if fit.without == without]
        x, mean, scale = _training(design, without)
        y = targets[[fits[number].target for number in here]][:, design.training(without)]
        model = Ridge(alpha=[fits[number].l2 for number in here], copy_X=False)
        model.fit(x, y.T.cpu().numpy())
        weights[here, 0] = _in_design(np.atleast_2d(model.coef_), model.intercept_, mean, scale)
    return Solution(weights, steps=1)


def _logistic(
    design: Design, targets: Tensor, fit: Fit, classes: int, tol: float, max_steps: int
) -> tuple[Tensor, int]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, mean, scale = _training(design, fit.without)
    y = targets[fit.target, design.training(fit.without)].cpu().numpy()
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
    design: Design, without: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Standardised rows of the other folds, and what they were standardised by."""
    x = design.x[design.training(without), :-1].double().cpu().numpy()
    spread = design.spread(without)
    mean, scale = spread.mean.cpu().numpy(), spread.scale.cpu().numpy()
    scale = np.where(scale > 0, scale, np.inf)
    x -= mean
    x /= scale
    return x, mean, scale


def _in_design(
    coefficients: NDArray[Any], intercepts: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]
) -> Tensor:
    weights = coefficients / scale
    bias = intercepts - weights @ mean
    return torch.from_numpy(np.concatenate([weights, bias[:, None]], axis=1)).float()
