"""How far two labellings of the same rows agree, from their contingency tables: many at once.

The same numbers as `sklearn.metrics`, which takes one pair at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor


def contingency(a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
    """How many rows have each pair of classes, ``[draws, classes of a, classes of b]``, float64.

    Args:
        a: ``[draws, rows]`` or ``[1, rows]`` class numbers from 0.
        b: ``[rows]`` class numbers from 0.
        weights: ``[draws, rows]`` how often each row counts.
    """
    rows, others = int(a.max()) + 1, int(b.max()) + 1
    draws = len(a) if weights is None else len(weights)
    cells = (a * others + b).expand(draws, -1)
    counted = torch.ones(cells.shape, dtype=torch.float64, device=a.device)
    counted = counted if weights is None else weights.to(counted)
    table = torch.zeros(draws, rows * others, dtype=torch.float64, device=a.device)
    return table.scatter_add_(1, cells, counted).view(draws, rows, others)


def adjusted_rand(table: Tensor) -> Tensor:
    """Adjusted Rand index ``[draws]`` of contingency tables: 1 the same parts, 0 as by chance.

    Hubert and Arabie (1985); it is below 0 where they agree less than by chance.
    """
    total = table.sum((1, 2))
    pairs = _pairs(table).sum((1, 2))
    rows, columns = _pairs(table.sum(2)).sum(1), _pairs(table.sum(1)).sum(1)
    chance = rows * columns / _pairs(total)
    most = (rows + columns) / 2
    return torch.where(most == chance, 1.0, (pairs - chance) / (most - chance))


def normalised_information(table: Tensor) -> Tensor:
    """Mutual information over the mean of both entropies ``[draws]``, 0 to 1; not chance-corrected."""
    share = table / table.sum((1, 2), keepdim=True)
    first, second = _entropy(share.sum(2)), _entropy(share.sum(1))
    shared = first + second - _entropy(share.flatten(1))
    mean = (first + second) / 2
    return torch.where(mean == 0, 1.0, (shared / mean).clamp_min(0))


def _pairs(counts: Tensor) -> Tensor:
    return counts * (counts - 1) / 2


def _entropy(share: Tensor) -> Tensor:
    found: Tensor = -torch.special.xlogy(share, share).sum(1)
    return found
