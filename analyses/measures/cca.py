"""Canonical correlations of two sets of features: SVCCA, PWCCA and their mean.

Raghu et al. 2017; Morcos et al. 2018. With few rows independent features correlate: the mean of the
squared correlations is ``max(p, q) / (rows - 1)``, exactly, over random orders of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from layerscope.analyses.measures.cka import centred

NOISE = 1e-6
"""Directions with a singular value below this share of the largest are rounding of float32."""
ENOUGH = 10
"""Rows per direction below which the correlations of independent features are not small."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthonormal coordinates of centred rows."""

    scores: Tensor
    """``[rows, directions]`` with orthonormal columns, along the principal components"""
    features: Tensor
    """``[directions, width]`` inner products with the features"""

    @property
    def directions(self) -> int:
        return self.scores.shape[1]


def basis(x: Tensor, *, share: float = 1.0) -> Basis:
    """Principal components of ``x [rows, width]`` up to this share of the variance.

    Args:
        share: .99 for SVCCA; 1 keeps all but rounding (`NOISE`).
    """
    x = centred(x)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    if not s[0] > 0:
        return Basis(u[:, :0], v[:0])
    energy = s.square().cumsum(0) / s.square().sum()
    kept = int((energy < share - 1e-12).sum()) + 1
    kept = min(kept, int((s > NOISE * s[0]).sum()))
    return Basis(u[:, :kept], s[:kept, None] * v[:kept])


@dataclass(frozen=True, eq=False)
class Correlations:
    """Canonical correlations of two bases."""

    values: Tensor
    """``[k]`` between 0 and 1, largest first; k is the smaller number of directions."""
    weights: Tensor
    """``[k]`` PWCCA: how much of the features of x each canonical variate holds; they sum to 1."""
    left: Tensor
    """``[rows, k]`` canonical variates of x, orthonormal"""
    right: Tensor
    """``[rows, k]`` those of y"""

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else float("nan")

    @property
    def weighted(self) -> float:
        """PWCCA; it is not the same with x and y exchanged."""
        return float(self.weights @ self.values) if len(self.values) else float("nan")

    def influence(self, weights: Tensor) -> Tensor:
        """``[rows]`` first-order effect of each row on ``weights @ values``; their sum is 0."""
        n = len(self.left)
        products = self.left * self.right - self.values / 2 * (
            self.left.square() + self.right.square()
        )
        found: Tensor = n * (products @ weights)
        return found


def correlations(x: Basis, y: Basis, inner: Tensor | None = None) -> Correlations:
    """Canonical correlations; `inner` is ``x.scores.T @ y.scores`` where it is already known."""
    inner = x.scores.T @ y.scores if inner is None else inner
    u, values, v = torch.linalg.svd(inner, full_matrices=False)
    loads = (u.T @ x.features).abs().sum(1)
    return Correlations(values.clamp(0, 1), loads / loads.sum(), x.scores @ u, y.scores @ v.T)


@lru_cache(maxsize=256)
def chance(n: int, p: int, q: int, *, draws: int = 10, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the mean correlation of independent features.

    Drawn from the law of canonical correlations of normal data, which depends on the numbers of
    rows and directions only; nearly the same for permuted rows of any data.
    """
    p, q = min(p, q), max(p, q)
    if p == 0:
        return float("nan"), float("nan")
    if n - 1 <= q:
        return 1.0, 0.0
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(draws, dtype=torch.float64)
    for draw in range(draws):
        rows = torch.randn(p, n - 1, dtype=torch.float64, generator=generator)
        factor = torch.linalg.cholesky(rows @ rows.T)
        means[draw] = torch.linalg.svdvals(
            torch.linalg.solve_triangular(factor, rows[:, :q], upper=False)
        ).mean()
    return float(means.mean()), float(means.std())
