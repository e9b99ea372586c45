"""The rows of one site, laid out for cross-validation: sorted by fold, with their second moments.

A probe that is trained without some folds must be standardised by the rows it may see. Copying and
scaling the rows for every fold is avoided: they stay as they are, and the penalty on feature j is
multiplied by its variance over the training rows, which has the same minimum in other coordinates.
So the probes of all folds, targets and penalties share every product with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

_CONSTANT = 1e-6  # float32 cannot tell a smaller spread, relative to the mean, from rounding
_EXACT_WIDTH = 1024  # up to here moments are summed in float64; beyond, the sums are the main cost
_CHUNK = {"cpu": 4096, "cuda": 65536}


@dataclass(frozen=True)
class Fit:
    """One probe to train."""

    target: int
    """Which of the targets it learns."""
    without: tuple[int, ...]
    """Folds it must not see."""
    l2: float
    """Weight of half the squared norm, on standardised features, against the summed loss."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of each feature over the training rows of one fit."""

    rows: int
    mean: Tensor  # [width]
    scale: Tensor  # [width]; 0 where the feature is constant


@dataclass(frozen=True)
class Design:
    """Standardised rows with a column of ones, in contiguous folds."""

    x: Tensor
    """``[rows, width + 1]`` float32."""
    bounds: tuple[int, ...]
    """First row of each fold, and the end."""
    mean: Tensor
    scale: Tensor
    """``[width]`` each: what the features were standardised by; scale is 1 where constant."""

    @classmethod
    def of(
        cls, x: Tensor, bounds: Sequence[int], *, device: str | torch.device | None = None
    ) -> Design:
        """Standardise rows by all of them; fits correct for the rows they may not see.

        Args:
            x: ``[rows, width]``, any float dtype, finite; rows of one fold are adjacent.
            bounds: ``[folds + 1]`` first row of each fold, and the end.
            device: Where to compute; None leaves it where `x` is.
        """
        ones = torch.ones(len(x), x.shape[1] + 1, device=device or x.device)
        features = ones[:, :-1]
        features.copy_(x)
        mean = features.mean(0, dtype=torch.float64).float()
        features -= mean
        spread = features.square().mean(0, dtype=torch.float64).sqrt().float()
        constant = spread <= _CONSTANT * mean.abs()
        scale = spread.masked_fill(constant, 1.0)
        features /= scale
        features.masked_fill_(constant, 0.0)
        return cls(ones, tuple(map(int, bounds)), mean, scale)

    @property
    def folds(self) -> range:
        return range(len(self.bounds) - 1)

    @property
    def width(self) -> int:
        """Features, without the column of ones."""
        return self.x.shape[1] - 1

    @property
    def constant(self) -> int:
        """Features that do not vary over all rows."""
        # They alone have nothing but zeros, and were divided by 1.
        among = (self.scale == 1).nonzero()[:, 0]
        return int((self.x[:, among] == 0).all(0).sum())

    def fold(self, fold: int) -> slice:
        return slice(self.bounds[fold], self.bounds[fold + 1])

    def rows(self, without: Sequence[int] = ()) -> int:
        """How many rows the other folds have."""
        sizes = (self.bounds[f + 1] - self.bounds[f] for f in self.folds if f not in without)
        return sum(sizes)

    def training(self, without: Sequence[int] = ()) -> Tensor:
        """Numbers of the rows of the other folds, on the device of `x`."""
        kept = [self.fold(f) for f in self.folds if f not in without]
        return torch.cat([torch.arange(p.start, p.stop, device=self.x.device) for p in kept])

    def chunks(self, fold: int) -> Iterator[slice]:
        """Runs of rows whose scores for a hundred outputs take a few MB."""
        step = _CHUNK.get(self.x.device.type, _CHUNK["cuda"])
        part = self.fold(fold)
        for start in range(part.start, part.stop, step):
            yield slice(start, min(start + step, part.stop))

    def moments(self, without: Sequence[int] = ()) -> Tensor:
        """``[width + 1, width + 1]`` sum of outer products of the rows of the other folds."""
        total, parts = self._moments
        kept = total.clone()
        for fold in without:
            kept -= parts[fold]
        return kept

    def spread(self, without: Sequence[int] = ()) -> Spread:
        """What a probe trained without these folds is standardised by."""
        total, parts = self._moments
        left_out = [parts[fold] for fold in without]
        rows = self.rows(without)
        sums = total[-1, :-1] - sum(part[-1, :-1] for part in left_out)
        squares = total.diagonal()[:-1] - sum(part.diagonal()[:-1] for part in left_out)
        mean = sums / rows
        variance = squares / rows - mean.square()
        varies = variance > _CONSTANT**2 * (1 + mean.square())
        return Spread(rows, mean, torch.where(varies, variance, 0.0).clamp_min(0).sqrt())

    def scores(self, fold: int, weights: Tensor) -> Tensor:
        """``[rows of the fold, outputs]`` of a probe ``[outputs, width + 1]``."""
        return self.x[self.fold(fold)] @ weights.T

    def thinned(self, rows: int) -> tuple[Design, Tensor]:
        """About `rows` of the rows, evenly from each fold, in the same coordinates; and which."""
        stride = max(1, -(-len(self.x) // rows))
        parts = map(self.fold, self.folds)
        kept = [torch.arange(p.start, p.stop, stride, device=self.x.device) for p in parts]
        index = torch.cat(kept)
        bounds = np.cumsum([0, *map(len, kept)]).tolist()
        return Design(self.x[index], tuple(bounds), self.mean, self.scale), index

    @cached_property
    def _moments(self) -> tuple[Tensor, list[Tensor]]:
        """Sums of outer products: of all rows, and of each fold."""
        exact = self.width <= _EXACT_WIDTH
        size = self.width + 1
        parts = []
        for fold in self.folds:
            part = torch.zeros(size, size, dtype=torch.float64, device=self.x.device)
            for chunk in self.chunks(fold):
                rows = self.x[chunk].double() if exact else self.x[chunk]
                part += rows.T @ rows
            parts.append(part)
        return torch.stack(parts).sum(0), parts
