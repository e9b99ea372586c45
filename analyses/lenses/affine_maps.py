"""Least squares from many layers to many layers at once, in closed form.

Nothing is kept but sums of products in float64, so memory does not grow with the data, and one
Cholesky factor for each source layer serves all targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SINGULAR = 1e-13
"""Rounding leaves about this share of a feature that depends on others."""


@dataclass(frozen=True)
class AffineMaps:
    """``y = weight[i, j] @ x + bias[i, j]`` from source layer i to target layer j."""

    weight: Tensor
    """`[sources, targets, d_target, d_source]` float64"""
    bias: Tensor
    """`[sources, targets, d_target]` float64"""
    center: Tensor
    """`[targets, d_target]` mean of each target: what knowing nothing would predict."""
    rows: int

    def __call__(self, states: Tensor, source: int) -> Tensor:
        """Every target's prediction, `[targets, n, d_target]` float64, from states `[n, d_source]`."""
        shaped = torch.einsum("tde,ne->tnd", self.weight[source], states.double())
        return shaped + self.bias[source][:, None]


class AffineFit:
    """Ridge regression that grows with data, for all pairs of layers.

    Args:
        sources: How many source layers, and their width.
        targets: How many target layers, and their width.
    """

    def __init__(self, sources: tuple[int, int], targets: tuple[int, int]) -> None:
        (s, d), (t, e) = sources, targets
        self.rows = 0
        self._x = torch.zeros(s, d, dtype=torch.float64)
        self._y = torch.zeros(t, e, dtype=torch.float64)
        self._xx = torch.zeros(s, d, d, dtype=torch.float64)
        self._xy = torch.zeros(s, t, d, e, dtype=torch.float64)
        self._origin: tuple[Tensor, Tensor] | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many source and target layers there are."""
        return len(self._x), len(self._y)

    def update(self, x: Tensor, y: Tensor) -> AffineFit:
        """Add rows: source states `[sources, n, d]` and target states `[targets, n, e]`.

        Raises:
            ValueError: another number of layers or rows, other widths, or values that are NaN or
                infinite.
        """
        x, y = (z.detach().to("cpu", torch.float64) for z in (x, y))
        self._check(x, y)
        if self._origin is None:
            # Far from the origin, sums of products would lose the digits that variance is made of.
            self._origin = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, y = x - self._origin[0], y - self._origin[1]
        self.rows += x.shape[1]
        self._x += x.sum(1)
        self._y += y.sum(1)
        self._xx += x.mT @ x
        for source, rows in enumerate(x):
            self._xy[source] += rows.T @ y
        return self

    def result(self, *, ridge: float = 1e-3) -> AffineMaps:
        """The maps of least squared error plus ``ridge * rows * variance * |weight|**2``.

        Args:
            ridge: Relative to the mean variance of a source layer's features; 0 is plain least
                squares, which needs more rows than features.

        Raises:
            ValueError: no rows, or `ridge` 0 where features depend on each other.
        """
        if self._origin is None or self.rows < 2:
            raise ValueError(f"{self.rows} rows are too few to fit a map on")
        mean_x, mean_y = self._x / self.rows, self._y / self.rows
        weights = [self._solve(i, mean_x[i], mean_y, ridge) for i in range(len(self._x))]
        weight = torch.stack(weights)
        center_x, center_y = mean_x + self._origin[0][:, 0], mean_y + self._origin[1][:, 0]
        bias = center_y - torch.einsum("stde,se->std", weight, center_x)
        return AffineMaps(weight, bias, center_y, self.rows)

    def _solve(self, source: int, mean_x: Tensor, mean_y: Tensor, ridge: float) -> Tensor:
        """`[targets, e, d]`: all targets from one factor."""
        moments = self._xx[source] - self.rows * torch.outer(mean_x, mean_x)
        cross = self._xy[source] - self.rows * mean_x[None, :, None] * mean_y[:, None, :]
        # A layer that never varies gets zero weights instead of a failed factor.
        floor = torch.finfo(torch.float64).tiny * (ridge > 0)
        moments.diagonal().add_(max(ridge * moments.diagonal().mean().item(), floor))
        factor, failed = torch.linalg.cholesky_ex(moments)
        # What is left of a feature once the others before it have explained it.
        left = (factor.diagonal().square() / moments.diagonal()).min()
        if failed or not bool(left > _SINGULAR):
            raise ValueError(
                f"the features of source layer {source} depend on each other in {self.rows} rows "
                f"(width {len(mean_x)}); give more rows or a larger ridge than {ridge:g}"
            )
        return torch.cholesky_solve(cross, factor).mT

    def _check(self, x: Tensor, y: Tensor) -> None:
        wanted = (self._x.shape, self._y.shape)
        got = tuple(torch.Size((z.shape[0], z.shape[-1])) for z in (x, y))
        if got != wanted or x.shape[1] != y.shape[1]:
            raise ValueError(
                f"this fit takes [layers, rows, width] of {list(wanted[0])} and {list(wanted[1])} "
                f"with as many rows each, got {list(x.shape)} and {list(y.shape)}"
            )
        for name, z in (("source", x), ("target", y)):
            bad = ~torch.isfinite(z).all(-1)
            if bad.any():
                layer, row = (int(i) for i in bad.nonzero()[0])
                raise ValueError(f"{name} layer {layer} is NaN or infinite at row {row}")
