"""Distances between rows, in blocks: nothing of size rows x rows x width is ever made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

BLOCK = 1024
"""Rows whose distances to all others are worked on at a time."""
_CLOSE = 1e-10
"""Squared distance, relative to the squared norms, below which cancellation eats the digits."""


def pairwise_sq(x: Tensor, z: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances ``[rows of x, rows of z]`` in float64; z None: of x to itself.

    Rows are centred before the product. Distances that are tiny beside the norms are recomputed from
    the difference of the two rows, so duplicates are at exactly 0.

    >>> pairwise_sq(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]], dtype=torch.float64)
    """
    a = x.double()
    b = a if z is None else z.double().to(a.device)
    middle = b.mean(0)
    a, b = a - middle, b - middle
    found = torch.cat([_block(part, b) for part in a.split(BLOCK)])
    if z is None:
        found = (found + found.T) / 2
        found.fill_diagonal_(0)
    return found


def distances(x: Tensor, z: Tensor | None = None) -> Tensor:
    """Euclidean distances ``[rows of x, rows of z]`` in float64."""
    return pairwise_sq(x, z).sqrt_()


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each row, nearest first; the row itself is not among them."""

    distance: Tensor
    """``[rows, k]`` float64"""
    index: Tensor
    """``[rows, k]``"""


def neighbours(x: Tensor, k: int, *, block: int = BLOCK) -> Neighbours:
    """The `k` nearest rows of each row, by Euclidean distance; duplicates count as neighbours.

    Raises:
        ValueError: fewer than ``k + 1`` rows.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"{k} neighbours need more than {k} rows, there are {len(x)}")
    centred = x.double() - x.double().mean(0)
    near, which = [], []
    for first, rows in _blocks(centred, block):
        squares = _block(rows, centred)
        own = torch.arange(len(rows), device=x.device)
        squares[own, own + first] = torch.inf
        found = squares.topk(k, largest=False)
        near.append(found.values.sqrt())
        which.append(found.indices)
    return Neighbours(torch.cat(near), torch.cat(which))


def _blocks(x: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    for first in range(0, len(x), size):
        yield first, x[first : first + size]


def _block(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of centred rows."""
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    with full_precision():
        squares = torch.addmm(norms, a, b.T, alpha=-2).clamp_min_(0)
    near = (squares < _CLOSE * norms).nonzero()
    for pairs in near.split(65536):
        squares[pairs[:, 0], pairs[:, 1]] = (a[pairs[:, 0]] - b[pairs[:, 1]]).square().sum(1)
    return squares
