"""Intrinsic dimension from the two nearest neighbours of each row (Facco et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.analyses.measures.distances import neighbours

KEPT = 0.9
"""The linear fit leaves out the rows whose ratio is larger than that of this share of the rows."""
LEAST = 100
"""Fewer rows than these are not cut further by `decimation`."""


@dataclass(frozen=True)
class TwoNN:
    """Dimension of one cloud, by both estimators."""

    mle: float
    """``(n - 1) / sum(log mu)``; mu is the ratio of the distances to the two nearest rows."""
    fit: float
    """Slope through the origin of ``-log(1 - F(mu))`` on ``log mu``."""
    logs: Tensor
    """``[rows]`` log mu of each row that was kept."""
    kept: Tensor
    """``[rows]`` which rows those are: the first of each set of equal rows."""
    duplicates: int
    """Rows that equal an earlier one and were left out."""


def two_nn(x: Tensor) -> TwoNN:
    """TwoNN of ``x [rows, width]``.

    The estimate falls behind above about 15 dimensions (33 for a cube of 50 with 10,000 rows), and
    follows noise where rows are dense: see `decimation`. Needs no uniform density, only one that is
    even over the distance of two neighbours.

    Raises:
        ValueError: fewer than 3 different rows.
    """
    kept = distinct(x)
    if len(kept) < 3:
        raise ValueError(
            f"{len(x)} rows, {len(kept)} of them different; TwoNN needs at least 3 different rows"
        )
    near = neighbours(x[kept], 2).distance
    logs = (near[:, 1] / near[:, 0]).log()
    return TwoNN(mle_of(logs), fit_of(logs), logs, kept, len(x) - len(kept))


def mle_of(logs: Tensor) -> float:
    """``(n - 1) / sum(log mu)``."""
    return float((len(logs) - 1) / logs.sum())


def fit_of(logs: Tensor) -> float:
    """The slope of the original paper, without the largest ratios."""
    ordered = logs.sort().values[: int(KEPT * len(logs))]
    share = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=logs.device) / len(logs)
    height = -torch.log1p(-share)
    return float((ordered @ height) / (ordered @ ordered))


def decimation(x: Tensor, *, halvings: int = 4, seed: int = 0) -> list[tuple[int, Tensor]]:
    """The dimension on ever fewer rows: (rows, ``[parts]`` estimates by maximum likelihood).

    Fewer rows are further apart, so the estimate looks at a larger scale: one that rises with the
    rows sees noise, one that falls sees curvature. Each halving cuts all rows into disjoint parts.
    """
    generator = torch.Generator().manual_seed(seed)
    x = x[distinct(x)]
    order = torch.randperm(len(x), generator=generator).to(x.device)
    found = []
    for halving in range(1, halvings + 1):
        rows = len(x) // 2**halving
        if rows < LEAST:
            break
        near = [neighbours(x[part], 2).distance for part in order[: rows * 2**halving].split(rows)]
        logs = [(d[:, 1] / d[:, 0]).log() for d in near]
        found.append((rows, torch.tensor([mle_of(part) for part in logs])))
    return found


def distinct(x: Tensor) -> Tensor:
    """Numbers of the rows that equal no earlier one, in order."""
    generator = torch.Generator().manual_seed(0)
    # Equal rows have equal hashes, so only rows whose hashes agree are compared in full.
    weights = torch.randn(x.shape[1], dtype=torch.float64, generator=generator).to(x.device)
    keys = x.double() @ weights
    order = keys.argsort(stable=True)
    repeated = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    suspects = keys[order]
    close = torch.zeros_like(repeated)
    gaps = (suspects[1:] - suspects[:-1]).abs() <= 1e-9 * (1 + suspects[1:].abs())
    close[1:] |= gaps
    close[:-1] |= gaps
    candidates = order[close].sort().values
    if len(candidates):
        _, which = torch.unique(x[candidates], dim=0, return_inverse=True)
        first = torch.full((int(which.max()) + 1,), len(x), device=x.device)
        first.scatter_reduce_(0, which, candidates, "amin")
        repeated[candidates] = first[which] != candidates
    return (~repeated).nonzero()[:, 0]
