"""LEACE (Belrose et al. 2023): the least change after which no linear probe finds the label.

With ``S = cov(x)``, ``C = cov(x, z)`` and the whitening ``W = (S^(1/2))^+``, the eraser is
``x - W^+ P W (x - mean)``, where P projects orthogonally onto the columns of ``W C``. Among all affine maps r with
``cov(r(x), z) = 0`` it has the least mean ``|r(x) - x|^2``. All it needs are means and covariances,
so it is fitted on a stream of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from layerscope.probes.erasers.eraser import Eraser

_UNRELATED = 1e-8
"""Correlation with the label below which a whitened direction holds rounding only."""


class LeaceFit:
    """LEACE that grows with data; memory is ``width**2``, whatever the rows.

    Args:
        width: Features of a row.
        classes: What the labels can be; empty for numbers.
        numbers: How many numbers a row has, where there are no classes.
    """

    def __init__(self, width: int, classes: Sequence[Any] = (), *, numbers: int = 1) -> None:
        self.classes = tuple(classes)
        self.rows = 0
        outputs = len(self.classes) or numbers
        self._number = {value: i for i, value in enumerate(self.classes)}
        self._mean_x = torch.zeros(width, dtype=torch.float64)
        self._mean_z = torch.zeros(outputs, dtype=torch.float64)
        self._xx = torch.zeros(width, width, dtype=torch.float64)
        self._xz = torch.zeros(width, outputs, dtype=torch.float64)
        self._zz = torch.zeros(outputs, dtype=torch.float64)

    def update(self, x: Tensor, y: Sequence[Any] | Tensor) -> Self:
        """Add rows ``[rows, width]`` with their classes, or numbers ``[rows]`` or ``[rows, numbers]``.

        Raises:
            ValueError: rows and labels of different lengths, NaN, or an unknown class.
        """
        if x.ndim != 2 or len(x) != len(y):
            raise ValueError(
                f"x must be [rows, width] with one label a row, got {list(x.shape)} and {len(y)}"
            )
        if not len(x):
            return self
        z = self._targets(y).to(x.device)
        wide = x.detach().double()
        _check_finite(wide, z)
        self._merge(wide, z)
        return self

    def _targets(self, y: Sequence[Any] | Tensor) -> Tensor:
        if not self.classes:
            z = torch.as_tensor(y, dtype=torch.float64)
            return z[:, None] if z.ndim == 1 else z
        values = y.tolist() if isinstance(y, Tensor) else list(y)
        unknown = sorted({str(value) for value in values if value not in self._number})
        if unknown:
            raise ValueError(f"classes {unknown[:5]} are not among {list(self.classes)[:20]}")
        codes = torch.tensor([self._number[value] for value in values])
        return torch.nn.functional.one_hot(codes, len(self.classes)).double()

    def _merge(self, x: Tensor, z: Tensor) -> None:
        """Chan's update: sums about the mean, so that a large mean costs no digits."""
        new, total = len(x), self.rows + len(x)
        mean_x, mean_z = x.mean(0), z.mean(0)
        x, z = x - mean_x, z - mean_z
        step_x, step_z = mean_x.cpu() - self._mean_x, mean_z.cpu() - self._mean_z
        weight = self.rows * new / total
        self._xx += (x.T @ x).cpu() + weight * torch.outer(step_x, step_x)
        self._xz += (x.T @ z).cpu() + weight * torch.outer(step_x, step_z)
        self._zz += z.square().sum(0).cpu() + weight * step_z.square()
        self._mean_x += step_x * (new / total)
        self._mean_z += step_z * (new / total)
        self.rows = total

    def result(self, *, site: str = "", label: str = "", about: Any = None) -> Eraser:
        """The eraser of all rows so far, in float64.

        Raises:
            ValueError: fewer than two rows, or a label that never varies.
        """
        if self.rows < 2 or not bool((self._zz > 0).any()):
            raise ValueError("LEACE needs rows of which the label differs; there is one value only")
        spread = (self._zz / self.rows).sqrt()
        # Scaling the columns of z changes nothing that is erased, and makes rounding comparable.
        cross = self._xz[:, spread > 0] / self.rows / spread[spread > 0]
        values, vectors = torch.linalg.eigh(self._xx / self.rows)
        limit = torch.finfo(torch.float64).eps * len(values) * values[-1].clamp_min(0)
        kept = values > limit
        roots, axes = values[kept].sqrt(), vectors[:, kept]
        whitened = (axes / roots).T @ cross  # in the coordinates of the principal axes
        left, strengths, _ = torch.linalg.svd(whitened, full_matrices=False)
        found = left[:, strengths > _UNRELATED]
        return Eraser(
            remove=(axes * roots) @ found,
            read=((axes / roots) @ found).T.contiguous(),
            center=self._mean_x.clone(),
            method="leace",
            site=site,
            label=label,
            about={"rows": self.rows} | (about or {}),
        )


def _check_finite(x: Tensor, z: Tensor) -> None:
    for name, part in (("activations", x), ("labels", z)):
        bad = ~part.isfinite().all(1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(f"{name} are NaN or infinite, the first at row {row} of this batch")
