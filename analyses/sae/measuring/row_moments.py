"""Mean and covariance of the rows, in one pass, and the site and row of a number that is none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Of x [d_in] and y [d_out], float64."""

    rows: int
    mean_x: Tensor
    mean_y: Tensor
    cov_xx: Tensor
    """[d_in, d_in], divided by the number of rows."""
    cov_xy: Tensor
    """[d_in, d_out]"""
    cov_yy: Tensor
    """[d_out, d_out]"""
    norm_x: float
    """Mean norm of x."""

    @property
    def spread(self) -> float:
        """<|y - <y>|^2>, what there is to be explained."""
        return float(self.cov_yy.trace())


class RowMoments:
    """Streams x and y; memory is three matrices, whatever the number of rows.

    Sums are of differences from the first rows' mean, so that a mean far from 0 costs no digits.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._norm = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Rows [n, d_in] and [n, d_out]; `y` may be `x` itself."""
        if not self.rows:
            self._start(x, y)
        self._norm += float(x.double().norm(dim=1).sum())
        a = x.double() - self._at_x
        b = a if y is x else y.double() - self._at_y
        self.rows += len(a)
        self._x += a.sum(0)
        self._y += b.sum(0)
        self._xx += a.T @ a
        if y is not x:
            self._xy += a.T @ b
            self._yy += b.T @ b

    def _start(self, x: Tensor, y: Tensor) -> None:
        self._same = y is x
        self._at_x, self._at_y = x.double().mean(0), y.double().mean(0)
        self._x, self._y = torch.zeros_like(self._at_x), torch.zeros_like(self._at_y)
        self._xx = torch.outer(self._x, self._x)
        self._xy = torch.outer(self._x, self._y)
        self._yy = torch.outer(self._y, self._y)

    def result(self) -> Moments:
        """Means and covariances.

        Raises:
            ValueError: every row of y is the same, so that there is nothing to explain.
        """
        n = self.rows
        dx, dy = self._x / n, self._y / n
        xx = self._xx / n - torch.outer(dx, dx)
        xy = xx if self._same else self._xy / n - torch.outer(dx, dy)
        yy = xx if self._same else self._yy / n - torch.outer(dy, dy)
        found = Moments(n, self._at_x + dx, self._at_y + dy, xx, xy, yy, self._norm / n)
        if not found.spread > 0:
            raise ValueError(
                f"all {n:,} rows are the same: there is no variance that could be explained"
            )
        return found
