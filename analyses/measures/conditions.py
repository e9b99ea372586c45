"""Condition means and their inner products, without the noise of finite rows.

The squared length of a mean of n noisy rows is too large by the noise / n, which makes every
condition look further from the others than it is and every cosine smaller. Here only products of rows
of *different* groups are averaged: all the split halves there are, at once (a U-statistic; compare the
cross-validated distances of Walther et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class ConditionGrams:
    """Cross-validated inner products of condition means."""

    whole: Tensor
    """``[conditions, conditions]`` float64, not centred."""
    without: Tensor
    """``[blocks, conditions, conditions]``: the same, each time with one block of groups left out."""


def condition_grams(
    x: Tensor,
    codes: NDArray[np.int64],
    groups: NDArray[np.int64],
    count: int,
    blocks: NDArray[np.int64],
) -> ConditionGrams:
    """Unbiased inner products of the condition means of `x`.

    Args:
        x: ``[rows, width]``.
        codes: ``[rows]`` condition of each row, 0 to ``count - 1``.
        groups: ``[rows]`` rows of one group are never multiplied with each other.
        count: How many conditions.
        blocks: ``[rows]`` the block each row's group is in, for the jackknife.

    Returns:
        Grams, on the CPU; NaN where a condition has no two groups.
    """
    of_row, code, group = map(torch.from_numpy, (blocks, codes, groups))
    middle = _means(x, code, count).mean(0)
    sums, rows, same, pairs = [], [], [], []
    for block in range(int(blocks.max()) + 1):
        chosen = of_row == block
        part = x[chosen.to(x.device)].double() - middle
        cells, cell_codes, cell_groups, sizes = _cells(part, code[chosen], group[chosen], count)
        sums.append(_spread(cells, cell_codes, count))
        rows.append(_spread(sizes[:, None], cell_codes, count)[:, 0])
        together = (cell_groups[:, None] == cell_groups).to(cells)
        same.append(_folded(cells @ cells.T * together, cell_codes, count))
        pairs.append(_folded(sizes[:, None] * sizes * together, cell_codes, count))
    s, n, r, p = (torch.stack(parts).cpu() for parts in (sums, rows, same, pairs))
    left, n_left = s.sum(0) - s, n.sum(0) - n
    return ConditionGrams(
        whole=_average(s.sum(0), n.sum(0), r.sum(0), p.sum(0)),
        without=_average(left, n_left, r.sum(0) - r, p.sum(0) - p),
    )


def _average(sums: Tensor, rows: Tensor, same: Tensor, pairs: Tensor) -> Tensor:
    """Mean product over pairs of rows of different groups."""
    products = sums @ sums.mT - same
    counts = rows[..., :, None] * rows[..., None, :] - pairs
    return torch.where(counts > 0, products / counts, torch.nan)


def _means(x: Tensor, codes: Tensor, count: int) -> Tensor:
    codes = codes.to(x.device)
    sums = _spread(x.double(), codes, count)
    return sums / torch.bincount(codes, minlength=count).clamp_min(1)[:, None]


def _cells(
    x: Tensor, codes: Tensor, groups: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of one group and one condition added up: sums, conditions, groups, sizes."""
    keys, place = torch.unique(groups * count + codes, return_inverse=True)
    place = place.to(x.device)
    keys = keys.to(x.device)
    sums = _spread(x, place, len(keys))
    return sums, keys % count, keys // count, torch.bincount(place, minlength=len(keys)).double()


def _spread(values: Tensor, where: Tensor, count: int) -> Tensor:
    out = values.new_zeros(count, values.shape[1])
    return out.index_add_(0, where.to(values.device), values)


def _folded(products: Tensor, codes: Tensor, count: int) -> Tensor:
    """``[cells, cells]`` summed to ``[conditions, conditions]``."""
    return _spread(_spread(products, codes, count).T.contiguous(), codes, count)
