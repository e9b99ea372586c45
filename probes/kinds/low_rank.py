"""Logistic regression whose weight matrix has a limited rank: how many directions a label takes.

The loss is not convex in two factors. They start at the best matrix of the rank for Boehning's bound
of the loss at zero (see `solver`), a truncated singular value decomposition (Eckart and Young 1936),
and L-BFGS takes them down from there: the same minimum every time, if perhaps not the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerscope.probes.kinds.closed_form import ClassSums
from layerscope.probes.kinds.kind import LabelKind, Predictions, Work
from layerscope.probes.kinds.linear import Linear, fits_of, linear_readout, out_of_fold, tuned
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.solver import Solution, full_precision

TOL = 1e-5
"""Nats per row that the last step gains."""
_STEPS = 500


@dataclass(frozen=True)
class LowRank(LabelKind):
    """Multinomial logistic regression through `rank` directions (Hewitt and Liang 2019)."""

    name = "low_rank"
    tasks = ("class",)
    rule = (
        "features standardised on training rows; the penalty of each fold by another fold of its "
        "training rows, chosen without the limit on the rank"
    )

    rank: int = 2
    """Directions that all classes share; from one less than the classes on it is no limit."""
    l2: float | None = None
    """The penalty, on half the squared norm of the weights; None chooses it."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    def estimator(self, task: Task) -> str:
        return f"multinomial logistic of rank {self.rank}, L2"

    def predict(self, work: Work) -> Predictions:
        design, targets = work.design, work.targets
        penalties, _ = tuned(work.engine, design, targets[0], work.classes, self.l2)
        fits = fits_of(penalties, len(targets))
        found = low_rank(design, targets, fits, classes=work.classes, rank=self.rank)
        scores = out_of_fold(design, fits, found.weights, len(targets))
        return Predictions(scores.argmax(-1).cpu().numpy(), tuple(penalties), found.unfinished)

    def fit(self, work: Work, classes: tuple[Any, ...]) -> LinearReadout:
        l2 = Linear(self.l2).best_penalty(work, classes)
        fit = Fit(0, (), l2)
        found = low_rank(
            work.design, work.targets[:1], [fit], classes=len(classes), rank=self.rank, tol=1e-8
        )
        return linear_readout(work.design, found.weights[0], classes=classes, l2=l2)


@torch.no_grad()
def low_rank(
    design: Design,
    targets: Tensor,
    fits: Sequence[Fit],
    *,
    classes: int,
    rank: int,
    tol: float = TOL,
) -> Solution:
    """As `solver.logistic`, with feature weights of at most this rank; biases are free.

    Args:
        targets: ``[targets, rows]`` class numbers.
        tol: A fit is done when a step gains less, in nats per row.

    Returns:
        Weights ``[fits, classes, width + 1]``.
    """
    sums = ClassSums(design, targets, classes)
    metrics: dict[tuple[tuple[int, ...], float], _Metric] = {}
    found, steps, unfinished = [], 0, 0
    with full_precision():
        for fit in fits:
            key = (fit.without, fit.l2)
            if key not in metrics:
                metrics[key] = _Metric(design, *key)
            problem = _Factors(sums, fit, metrics[key], min(rank, classes, design.width))
            weights, taken = problem.minimise(tol)
            found.append(weights)
            steps, unfinished = max(steps, taken), unfinished + (taken >= _STEPS)
    return Solution(torch.stack(found), steps, unfinished)


class _Metric:
    """Boehning's bound of the rows that a fit may see, with its penalty; rows centred."""

    def __init__(self, design: Design, without: tuple[int, ...], l2: float) -> None:
        spread = design.spread(without)
        self.rows, self.mean = spread.rows, spread.mean
        self.penalty = l2 * spread.scale.square()
        self.varies = spread.scale > 0
        matrix = design.moments(without)[:-1, :-1]
        matrix -= spread.rows * torch.outer(spread.mean, spread.mean)
        matrix /= 2
        matrix.diagonal().add_(self.penalty)
        # A feature that is constant in training keeps weight zero: cut it out of the system.
        matrix = torch.where(torch.outer(self.varies, self.varies), matrix, 0.0)
        matrix.diagonal()[~self.varies] = 1.0
        matrix.diagonal().add_(1e-9 * matrix.diagonal().mean())
        self.factor = torch.linalg.cholesky(matrix)


class _Factors:
    """One fit: weights ``left @ right``, where `right` is in coordinates in which the bound is round."""

    def __init__(self, sums: ClassSums, fit: Fit, metric: _Metric, rank: int) -> None:
        self.design, self.metric, self.rank = sums.design, metric, rank
        self.classes = sums.classes
        self.parts = [
            self.design.fold(fold) for fold in self.design.folds if fold not in fit.without
        ]
        self.truth = [sums.targets[fit.target, part] for part in self.parts]
        self.totals = sums.kept(fit.target, fit.without)

    def minimise(self, tol: float) -> tuple[Tensor, int]:
        """Weights ``[classes, width + 1]`` for rows of the design, and the steps they took."""
        from scipy.optimize import minimize

        found = minimize(
            self._loss,
            self._start().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            # ftol is relative to the loss, which starts near log(classes) nats.
            options={"ftol": tol / 2, "gtol": 0.0, "maxiter": _STEPS, "maxfun": 2 * _STEPS},
        )
        left, right, bias = self._split(torch.from_numpy(found.x).to(self.totals))
        weights = left @ self._plain(right)
        bias = bias - weights @ self.metric.mean
        return torch.cat([weights, bias[:, None]], 1).float(), int(found.nit)

    def _start(self) -> Tensor:
        """The best matrix of the rank for the bound at zero, and the classes' shares as biases."""
        counts = self.totals[:, -1]
        centred = self.totals[:, :-1] - torch.outer(counts, self.metric.mean)
        whitened = torch.linalg.solve_triangular(
            self.metric.factor, (centred * self.metric.varies).T, upper=False
        ).T
        u, values, v = torch.linalg.svd(whitened, full_matrices=False)
        half = values[: self.rank].sqrt()
        bias = (counts.clamp_min(0.5) / counts.sum()).log()
        return torch.cat(
            [(u[:, : self.rank] * half).flatten(), (half[:, None] * v[: self.rank]).flatten(), bias]
        )

    def _loss(self, flat: Any) -> tuple[float, Any]:
        """Nats per row with the penalty, and the gradient."""
        left, right, bias = self._split(torch.from_numpy(flat).to(self.totals))
        plain = self._plain(right)
        weights = left @ plain
        slope = self.metric.penalty * weights
        total = (slope * weights).sum() / 2
        by_bias = torch.zeros_like(bias)
        by_left, by_plain = slope @ plain.T, left.T @ slope
        narrow, offset = plain.float(), (bias - weights @ self.metric.mean).float()
        for part, truth in zip(self.parts, self.truth, strict=True):
            x = self.design.x[part, :-1]
            inner = x @ narrow.T
            # Classes before rows: the softmax then runs along contiguous memory.
            logs = torch.addmm(offset[:, None], left.float(), inner.T).log_softmax(0)
            total -= logs.gather(0, truth[None]).sum(dtype=torch.float64)
            missed = logs.exp()
            missed[truth, torch.arange(len(truth), device=x.device)] -= 1
            sums = missed.sum(1, dtype=torch.float64)
            centre = self.metric.mean
            by_bias += sums
            by_left += (missed @ inner).double() - torch.outer(sums, plain @ centre)
            through = left.float().T @ missed
            by_plain += (through @ x).double() - torch.outer(left.T @ sums, centre)
        by_right = torch.linalg.solve_triangular(
            self.metric.factor, (by_plain * self.metric.varies).T, upper=False
        ).T
        gradient = torch.cat([by_left.flatten(), by_right.flatten(), by_bias])
        rows = self.metric.rows
        return float(total) / rows, (gradient / rows).cpu().numpy()

    def _plain(self, right: Tensor) -> Tensor:
        """``[rank, width]`` for features of the design."""
        factor = self.metric.factor
        solved: Tensor = torch.linalg.solve_triangular(factor.T, right.T, upper=True).T
        return solved * self.metric.varies

    def _split(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width, r = self.design.width, self.rank
        left, right, bias = flat.split([self.classes * r, r * width, self.classes])
        return left.view(self.classes, r), right.view(r, width), bias
