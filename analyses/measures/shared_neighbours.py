"""Mutual nearest neighbours (Huh et al. 2024): the share of its neighbours a row keeps elsewhere."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from layerscope.analyses.measures.distances import neighbours


def nearest(x: Tensor, k: int = 10) -> Tensor:
    """The `k` nearest rows of each row by cosine, ``[rows, k]``; rows of length 0 stay as they are."""
    norms = x.double().norm(dim=1, keepdim=True)
    return neighbours(x.double() / norms.clamp_min(1e-300), k).index


def kept(a: Tensor, b: Tensor) -> Tensor:
    """``[rows]`` share of the neighbours ``a [rows, k]`` that are among ``b [rows, k]``."""
    return (a[:, :, None] == b[:, None, :]).any(2).double().mean(1)


def chance(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the mean share over all orders of the rows of one side.

    Exact: the mean is ``k / (rows - 1)``; the deviation counts the pairs of edges of the two graphs
    of neighbours that share both rows, one, or none, since neighbours are often mutual.

    Args:
        a: ``[rows, k]`` of `nearest`, at least 4 rows.
        b: The same for the other side.
    """
    n, k = a.shape
    edges = n * k
    left, right = _edge_pairs(a), _edge_pairs(b)
    ways = (n * (n - 1), n * (n - 1), *[n * (n - 1) * (n - 2)] * 3, n * (n - 1) * (n - 2) * (n - 3))
    square = sum(x * y / way for x, y, way in zip(left, right, ways, strict=True))
    mean = edges * edges / (n * (n - 1))
    return k / (n - 1), sqrt(max(0.0, square - mean * mean)) / edges


def _edge_pairs(near: Tensor) -> tuple[float, float, float, float, float, float]:
    """Ordered pairs of edges: equal, reversed, from one row, to one row, through one row, disjoint.

    Those through one row come in two orders, so they count by the root of 2 in each graph.
    """
    n, k = near.shape
    edges = n * k
    there = torch.arange(n, device=near.device)[:, None, None]
    mutual = int((near[near] == there).sum())
    arriving = torch.bincount(near.flatten(), minlength=n).double()
    leave = n * k * k - edges
    arrive = float(arriving.square().sum()) - edges
    through = float(k * arriving.sum()) - mutual
    apart = edges * edges - edges - mutual - leave - arrive - 2 * through
    return edges, mutual, leave, arrive, 2**0.5 * through, apart
