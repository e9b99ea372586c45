"""Multinomial logistic regression with an l1 penalty, along a path of penalties.

Proximal gradient steps with momentum (FISTA, Beck and Teboulle 2009) under Boehning's fixed bound
of the Hessian, which here is one number: the largest eigenvalue of the scores' second moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision


@dataclass(frozen=True)
class SparsePath:
    """Weights for each penalty, strongest first."""

    weights: Tensor
    """``[penalties, classes, width + 1]``; the last column is the bias."""
    unfinished: int
    """Penalties whose steps ran out."""


def strongest(x: Tensor, y: Tensor, classes: int) -> float:
    """The least penalty, in nats per row, at which all weights are zero.

    Args:
        x: ``[rows, width]``
        y: ``[rows]`` class numbers.
    """
    wanted = torch.nn.functional.one_hot(y, classes).to(x.dtype)
    slope = (wanted.mean(0) - wanted).T @ (x - x.mean(0)) / len(x)
    return float(slope.abs().max())


@torch.no_grad()
def sparse_path(
    x: Tensor,
    y: Tensor,
    penalties: Sequence[float],
    *,
    classes: int,
    tol: float = 1e-7,
    max_steps: int = 1000,
) -> SparsePath:
    """Minimise mean cross-entropy plus ``l1 * sum(|weights|)``; the bias is free.

    Args:
        x: ``[rows, width]``; standardise it, or the penalty means something else for each feature.
        y: ``[rows]`` class numbers.
        penalties: In nats per row; each starts where the one before ended, so give them falling.
        tol: A penalty is done when a step gains less, in nats per row.
    """
    with full_precision():
        problem = _Problem(x, y, classes)
        weights = torch.zeros(classes, x.shape[1] + 1, dtype=x.dtype, device=x.device)
        found, unfinished = [], 0
        for l1 in penalties:
            weights, done = problem.minimise(weights, l1, tol, max_steps)
            unfinished += not done
            found.append(problem.uncentred(weights))
        return SparsePath(torch.stack(found), unfinished)


class _Problem:
    """Rows centred, so that the bound of the biases stands apart from that of the weights."""

    def __init__(self, x: Tensor, y: Tensor, classes: int) -> None:
        self.mean = x.mean(0)
        self.x = x - self.mean
        self.wanted = torch.nn.functional.one_hot(y, classes).to(x.dtype)
        moments = (self.x.T @ self.x / len(x)).double()
        # Half the second moments bound the Hessian; rounded up, as a bound must be.
        steepest = torch.linalg.eigvalsh(moments)[-1].item() / 2 * (1 + 1e-4)
        self.rate = torch.full((x.shape[1] + 1,), 1 / max(steepest, 1e-12))
        self.rate[-1] = 2.0
        self.rate = self.rate.to(x)

    def minimise(self, start: Tensor, l1: float, tol: float, max_steps: int) -> tuple[Tensor, bool]:
        """The weights, and whether they had settled."""
        best, ahead, pace = start, start, 1.0
        for _ in range(max_steps):
            gradient = self._gradient(ahead)
            new = self._shrunk(ahead - self.rate * gradient, l1)
            moved = new - best
            step = ahead - new
            if float((step * moved / self.rate).sum()) > 0:  # momentum points uphill: start anew
                pace = 1.0
            following = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            ahead = new + (pace - 1) / following * moved
            best, pace = new, following
            if float((step.square() / self.rate).sum()) / 2 < tol:
                return best, True
        return best, False

    def uncentred(self, weights: Tensor) -> Tensor:
        """The same for rows as they were given."""
        bias = weights[:, -1] - weights[:, :-1] @ self.mean
        return torch.cat([weights[:, :-1], bias[:, None]], 1)

    def _gradient(self, weights: Tensor) -> Tensor:
        scores = torch.addmm(weights[:, -1], self.x, weights[:, :-1].T)
        missed = (scores.softmax(1) - self.wanted) / len(self.x)
        return torch.cat([missed.T @ self.x, missed.sum(0)[:, None]], 1)

    def _shrunk(self, weights: Tensor, l1: float) -> Tensor:
        features = weights[:, :-1]
        cut = (features.abs() - l1 * self.rate[:-1]).clamp_min(0) * features.sign()
        return torch.cat([cut, weights[:, -1:]], 1)
