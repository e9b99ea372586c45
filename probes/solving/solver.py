"""Many linear probes at once: multinomial logistic regression and ridge, in torch.

The logistic fits follow Boehning (1992): the Hessian is nowhere larger than half the second moments
of the rows plus the penalty, so one Cholesky factor serves every step and no step needs a line
search. Nesterov's momentum with restarts makes up for the bound being loose. Fits of all folds,
targets and penalties advance together: one product with the rows gives everyone's scores, a second
one everyone's gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.solving.design import Design, Fit

# A bound must not fall below what it bounds by rounding.
_ROUNDED_UP = 1 + 1e-4


@dataclass(frozen=True)
class Solution:
    """Trained probes, in the coordinates of the design they were trained on."""

    weights: Tensor
    """``[fits, outputs, width + 1]``; the last column is the bias."""
    steps: int
    unfinished: int = 0
    """Fits that were still moving when the steps ran out."""


@torch.no_grad()
def logistic(
    design: Design,
    targets: Tensor,
    fits: Sequence[Fit],
    *,
    classes: int,
    tol: float = 1e-6,
    max_steps: int = 1000,
    start: Tensor | None = None,
) -> Solution:
    """Minimise, for every fit, the summed cross-entropy plus ``l2 / 2 * |weights|**2``.

    The penalty is on weights of standardised features; the bias is free.

    Args:
        targets: ``[targets, rows]`` class numbers, in the order of the design's rows.
        classes: How many classes there are.
        tol: A fit is done when the next step would lower its loss by less, in nats per row.
        max_steps: A fit that is not done by then stays as it is, and is counted.
        start: ``[fits, classes, width + 1]`` where to begin, for example the fits of the layer
            before; None begins at zero.

    Returns:
        Weights ``[fits, classes, width + 1]`` that sum to zero over the classes.
    """
    with full_precision():
        bound = Bound(design, targets, fits, classes)
        shape = (len(fits), classes, design.width + 1)
        best = torch.zeros(shape, device=design.x.device) if start is None else start.clone()
        ahead = best.clone()
        pace = torch.ones(len(fits), 1, 1, device=design.x.device)
        live, steps = list(range(len(fits))), 0
        while live and steps < max_steps:
            steps += 1
            gradient = bound.gradient(ahead[live], live)
            step = bound.solve(gradient, live)
            new = ahead[live] - step
            moved = new - best[live]
            uphill = _dot(gradient, moved) > 0
            now = pace[live].masked_fill(uphill, 1.0)
            pace[live] = (1 + (1 + 4 * now.square()).sqrt()) / 2
            ahead[live] = new + (now - 1) / pace[live] * moved
            best[live] = new
            gain = (_dot(gradient, step) / 2).flatten().cpu()
            live = [
                fit for fit, g in zip(live, gain.tolist(), strict=True) if g > tol * bound.rows[fit]
            ]
        return Solution(best, steps, len(live))


def objective(design: Design, target: Tensor, fit: Fit, weights: Tensor) -> float:
    """What `logistic` minimises, for one fit: summed nats plus penalty."""
    total = 0.0
    for fold in design.folds:
        if fold not in fit.without:
            part = design.fold(fold)
            scores = design.scores(fold, weights).double()
            total += torch.nn.functional.cross_entropy(scores, target[part], reduction="sum").item()
    scale = design.spread(fit.without).scale
    return total + fit.l2 / 2 * (weights[:, :-1].double() * scale).square().sum().item()


@torch.no_grad()
def ridge(design: Design, targets: Tensor, fits: Sequence[Fit]) -> Solution:
    """Minimise, for every fit, ``1/2 * squared error + l2 / 2 * |weights|**2``; exact.

    All penalties and targets of one training set come from a single eigendecomposition.

    Args:
        targets: ``[targets, rows]`` numbers, float64.

    Returns:
        Weights ``[fits, 1, width + 1]``.
    """
    weights = torch.empty(len(fits), 1, design.width + 1, device=design.x.device)
    products = _products(design, targets)
    totals = [targets[:, design.fold(fold)].sum(1) for fold in design.folds]
    for without in dict.fromkeys(fit.without for fit in fits):
        kept = [fold for fold in design.folds if fold not in without]
        path = RidgePath(
            design.moments(without),
            torch.stack([products[fold] for fold in kept]).sum(0),
            torch.stack([totals[fold] for fold in kept]).sum(0),
            design.rows(without),
        )
        for i, fit in enumerate(fits):
            if fit.without == without:
                weights[i, 0] = path.weights(fit.target, fit.l2).float()
    return Solution(weights, steps=1)


class RidgePath:
    """Ridge for every penalty, from sums over the training rows.

    Args:
        moments: ``[width + 1, width + 1]`` sum of outer products of rows that end in 1.
        products: ``[targets, width + 1]`` sum of target times row.
        totals: ``[targets]`` sum of each target.
        rows: How many were summed.
    """

    def __init__(self, moments: Tensor, products: Tensor, totals: Tensor, rows: int) -> None:
        self.mean = moments[-1, :-1] / rows
        self.center = totals / rows
        covariance = moments[:-1, :-1] - rows * torch.outer(self.mean, self.mean)
        variance = covariance.diagonal() / rows
        varies = variance > 1e-12 * (1 + self.mean.square())
        self.unscale = torch.where(varies, variance.clamp_min(1e-300).rsqrt(), 0.0)
        values, self.vectors = torch.linalg.eigh(
            covariance * torch.outer(self.unscale, self.unscale)
        )
        self.values = values.clamp_min(0)
        cross = products[:, :-1] - torch.outer(self.center, rows * self.mean)
        self.loads = (cross * self.unscale) @ self.vectors

    def weights(self, target: int, l2: float) -> Tensor:
        """``[width + 1]`` for rows that end in 1."""
        return self.all_weights(l2, slice(target, target + 1))[0]

    def all_weights(self, l2: float, targets: slice = slice(None)) -> Tensor:
        """``[targets, width + 1]`` for rows that end in 1."""
        inner = self.loads[targets] / (self.values + l2).clamp_min(1e-12)
        weights = (inner @ self.vectors.T) * self.unscale
        bias = self.center[targets] - weights @ self.mean
        return torch.cat([weights, bias[:, None]], 1)


class Bound:
    """Gradients of many fits, and the steps that Boehning's bound allows."""

    def __init__(self, design: Design, targets: Tensor, fits: Sequence[Fit], classes: int) -> None:
        self.design, self.fits, self.classes = design, fits, classes
        self.rows = [design.rows(fit.without) for fit in fits]
        sums = _class_sums(design, targets, classes)
        seen = [[fold for fold in design.folds if fold not in fit.without] for fit in fits]
        self.wanted = torch.stack(
            [sums[fit.target, kept].sum(0) for fit, kept in zip(fits, seen, strict=True)]
        )
        self.penalty = torch.stack([self._penalty(fit) for fit in fits])[:, None]
        self.factors = {_key(fit): self._factor(fit) for fit in fits}

    def gradient(self, weights: Tensor, live: Sequence[int]) -> Tensor:
        """``[live, classes, width + 1]`` at these weights."""
        total = self.penalty[live] * weights - self.wanted[live]
        for fold in self.design.folds:
            here = [i for i, fit in enumerate(live) if fold not in self.fits[fit].without]
            if here:
                total[here] += self._expected(fold, weights[here])
        return total

    def _expected(self, fold: int, weights: Tensor) -> Tensor:
        """Sum over the fold's rows of predicted probability times row."""
        flat = weights.flatten(0, 1)
        total = torch.zeros_like(flat)
        for chunk in self.design.chunks(fold):
            x = self.design.x[chunk]
            # Classes before rows: the softmax then runs along contiguous memory, 4 times faster.
            scores = (flat @ x.T).view(len(weights), self.classes, -1)
            total.addmm_(torch.softmax(scores, 1).flatten(0, 1), x)
        return total.view_as(weights)

    def solve(self, gradient: Tensor, live: Sequence[int]) -> Tensor:
        """The step that minimises the bound."""
        step = torch.empty_like(gradient)
        for key, (factor, varies) in self.factors.items():
            here = [i for i, fit in enumerate(live) if _key(self.fits[fit]) == key]
            if here:
                right = (gradient[here] * varies).flatten(0, 1).T
                solved = torch.cholesky_solve(right, factor).T
                step[here] = solved.reshape(len(here), self.classes, -1) * varies
        return step

    def _penalty(self, fit: Fit) -> Tensor:
        variance = self.design.spread(fit.without).scale.square()
        return torch.cat([fit.l2 * variance, variance.new_zeros(1)]).float()

    def _factor(self, fit: Fit) -> tuple[Tensor, Tensor]:
        scale = self.design.spread(fit.without).scale
        varies = torch.cat([scale > 0, scale.new_ones(1, dtype=torch.bool)])
        bound = self.design.moments(fit.without) * (_ROUNDED_UP / 2)
        bound.diagonal()[:-1] += fit.l2 * scale.square()
        # A feature that is constant in training keeps weight zero: cut it out of the system.
        bound = torch.where(torch.outer(varies, varies), bound, 0.0)
        bound.diagonal()[~varies] = 1.0
        ridge = 1e-9 * bound.diagonal().mean()
        bound.diagonal().add_(ridge)
        return torch.linalg.cholesky(bound).float(), varies.float()


def _key(fit: Fit) -> tuple[tuple[int, ...], float]:
    return fit.without, fit.l2


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)


def _class_sums(design: Design, targets: Tensor, classes: int) -> Tensor:
    """``[targets, folds, classes, width + 1]`` sum of the rows of each class."""
    shape = (len(targets), len(design.folds), classes, design.width + 1)
    sums = torch.zeros(shape, device=design.x.device)
    for target, numbers in enumerate(targets):
        for fold in design.folds:
            part = design.fold(fold)
            one_hot = torch.nn.functional.one_hot(numbers[part], classes).float()
            sums[target, fold] = one_hot.T @ design.x[part]
    return sums


def _products(design: Design, targets: Tensor) -> list[Tensor]:
    """For each fold ``[targets, width + 1]``: the sum of target times row."""
    sums = []
    for fold in design.folds:
        total = torch.zeros(
            len(targets), design.width + 1, dtype=torch.float64, device=targets.device
        )
        for chunk in design.chunks(fold):
            total += targets[:, chunk] @ design.x[chunk].double()
        sums.append(total)
    return sums


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 inside: its rounding would stop the fits short of their minimum."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
