"""Running counts of one site while its activations pass by; nothing of the rows is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.measures.sparseness import active, energy, hoyer, treves_rolls

LEVELS = (0.0, 1e-3, 1e-2, 1e-1)
"""Parts of a row's root mean square above which a unit counts as active."""
FIRING = (0, 3)
"""Which of `LEVELS` are also counted unit by unit."""
SHARES = (0.9, 0.95, 0.99)
"""Shares of the energy whose number of units is counted."""
MEASURES = [
    *(("active", level) for level in LEVELS),
    *(("energy", share) for share in SHARES),
    ("hoyer", float("nan")),
    ("treves_rolls", float("nan")),
]
BLOCK = 1 << 22
"""Numbers that are worked on at a time."""


@dataclass(frozen=True)
class Who:
    """Which rows these are: one entry for each."""

    group: NDArray[np.int64]
    apart: NDArray[np.bool_]
    """First tokens of texts and special tokens."""
    text: NDArray[np.int64]
    position: NDArray[np.int64]

    def __getitem__(self, part: slice) -> Who:
        return Who(self.group[part], self.apart[part], self.text[part], self.position[part])


class Counters:
    """Everything `sparsity` says about one site, in numbers that rows are added to.

    Args:
        site: For errors.
        groups: How many groups there are.
    """

    def __init__(self, site: str, groups: int) -> None:
        self.site = site
        self.width = 0
        self.sums = np.zeros((2, groups, len(MEASURES)))
        """``[ordinary or apart, groups, MEASURES]``, `energy` as a share of the width."""
        self.counts = np.zeros((2, groups))
        self.silent = np.zeros((2, groups))
        """Rows of zeros, which `hoyer` and `treves_rolls` leave out."""
        self.fired = torch.zeros(0)
        """``[FIRING, width]`` ordinary rows in which a unit was active."""
        self.size = torch.zeros(0)
        """``[width]`` sum of absolute values over ordinary rows."""
        self.peak = torch.zeros(0)
        """``[width]`` largest absolute value, over all rows."""
        self.where = np.zeros((0, 3), dtype=np.int64)
        """``[width, (text, position, apart)]`` of the peak."""

    def update(self, a: Tensor, who: Who) -> None:
        """Add rows ``[rows, width]``.

        Raises:
            ValueError: NaN or infinite activations, or another width than before.
        """
        a = a.detach()
        if not self.width:
            self._begin(a)
        if a.shape[-1] != self.width:
            raise ValueError(f"{self.site} has {a.shape[-1]} units here and {self.width} before")
        step = max(1, BLOCK // self.width)
        for start in range(0, len(a), step):
            part = slice(start, start + step)
            self._add(a[part], who[part])

    def _begin(self, a: Tensor) -> None:
        self.width = a.shape[-1]
        self.fired = torch.zeros(len(FIRING), self.width, dtype=torch.int64, device=a.device)
        self.size = torch.zeros(self.width, dtype=torch.float64, device=a.device)
        self.peak = torch.full((self.width,), -1.0, dtype=torch.float64, device=a.device)
        self.where = np.zeros((self.width, 3), dtype=np.int64)

    def _add(self, a: Tensor, who: Who) -> None:
        wide = a.to(torch.promote_types(a.dtype, torch.float32))
        self._refuse_broken(wide, who)
        values = [active(wide, LEVELS), energy(wide, SHARES) / self.width]
        shapes = torch.stack([hoyer(wide), treves_rolls(wide)], -1)
        silent = (wide == 0).all(-1)
        shapes = shapes.masked_fill(silent[:, None], 0)
        rows = torch.cat([*(x.double() for x in values), shapes.double()], 1).cpu().numpy()
        place = (who.apart.astype(int), who.group)
        np.add.at(self.sums, place, rows)
        np.add.at(self.counts, place, 1)
        np.add.at(self.silent, place, silent.cpu().numpy())
        self._by_unit(wide, who)

    def _by_unit(self, a: Tensor, who: Who) -> None:
        size = a.abs()
        most, row = size.max(0)
        better = (most > self.peak).cpu().numpy()
        self.peak = torch.maximum(self.peak, most.double())
        at = row.cpu().numpy()[better]
        self.where[better] = np.stack([who.text[at], who.position[at], who.apart[at]], -1)
        ordinary = torch.from_numpy(~who.apart).to(a.device)
        size = size[ordinary]
        self.size += size.sum(0, dtype=torch.float64)
        rms = size.square().mean(-1, keepdim=True).sqrt()
        for line, level in enumerate(FIRING):
            self.fired[line] += (size > LEVELS[level] * rms).sum(0)

    def _refuse_broken(self, a: Tensor, who: Who) -> None:
        good = a.isfinite().all(-1)
        if not bool(good.all()):
            row = int((~good).nonzero()[0])
            raise ValueError(
                f"{self.site} is NaN or infinite at position {who.position[row]} of text "
                f"{who.text[row]}; the model's weights, dtype or input are broken there"
            )


def rows_of(counted: Sequence[Counters]) -> int:
    """Ordinary rows of the first site."""
    return int(counted[0].counts[0].sum()) if counted else 0
