"""The generalised discrimination value: how far apart classes lie, against how wide each of them is.

Schilling, Maier, Gerum, Metzner and Krauss, *Quantifying the separability of data classes in neural
networks* (2021, arXiv 1811.01753): mean distance within classes minus mean distance between classes,
on features scaled to a standard deviation of one half, divided by the root of the width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from layerscope.analyses.measures.distances import distances

BLOCK = 50
"""Draws of labels that are worked on at a time."""


class GDV(NamedTuple):
    """Means over classes, each class and each pair of classes with equal weight."""

    intra: Tensor
    """Mean distance within a class, divided by the root of the width."""
    inter: Tensor
    """Mean distance between two classes, divided by the root of the width."""
    value: Tensor
    """``intra - inter``: 0 where the classes are one cloud, below 0 where they are apart."""


def half_z(x: Tensor) -> Tensor:
    """Each feature centred and scaled to a standard deviation of 1/2 (divided by N), in float64.

    Constant features become 0, and still count in the width.
    """
    x = x.double()
    constant = x.amax(0) == x.amin(0)
    centred = x - x.mean(0)
    scale = 2 * centred.square().mean(0).sqrt()
    return centred.div_(scale).masked_fill_(constant | (scale == 0), 0.0)


def gdv(x: Tensor, codes: Tensor) -> GDV:
    """GDV of rows ``[rows, width]`` with class numbers ``[rows]`` from 0.

    Exact: all pairs. Unchanged when a feature is moved or scaled, when features change places, or when
    every feature is doubled; not unchanged by a rotation.

    Raises:
        ValueError: fewer than two classes, or a class with a single row.

    >>> gdv(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])).value.item()
    -1.0
    """
    return gdv_from_distances(distances(half_z(x)), codes, x.shape[1])


def gdv_from_distances(d: Tensor, codes: Tensor, width: int) -> GDV:
    """GDV from the distances ``[rows, rows]`` of half-z-scored rows.

    Raises:
        ValueError: fewer than two classes, or a class with a single row.
    """
    codes = codes.to(d.device)
    counts = codes.bincount()
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError(
            f"GDV needs two classes or more with at least two rows each; rows by class: "
            f"{counts.tolist()}"
        )
    sums = next(class_sums(d, codes[None]))
    return GDV(*(part[0] for part in gdv_of_sums(sums, codes[None], width)))


def class_sums(d: Tensor, codes: Tensor) -> Iterator[Tensor]:
    """Sum of the distances from each row to the rows of each class, ``[draws, rows, classes]``.

    Yields one block of draws after the other.

    Args:
        d: ``[rows, rows]`` distances.
        codes: ``[draws, rows]`` class numbers from 0.
    """
    classes = int(codes.max()) + 1
    for part in codes.split(BLOCK):
        member = _member(part.to(d.device), classes, d.dtype)
        draws, rows, _ = member.shape
        flat = member.permute(1, 0, 2).reshape(rows, draws * classes)
        yield (d @ flat).view(rows, draws, classes).permute(1, 0, 2)


def gdv_of_sums(sums: Tensor, codes: Tensor, width: int) -> GDV:
    """GDV of each draw from its `class_sums` ``[draws, rows, classes]``."""
    classes = sums.shape[2]
    member = _member(codes.to(sums.device), classes, sums.dtype)
    total = (member.transpose(1, 2) @ sums).double()
    counts = member.sum(1).double()
    intra = (total.diagonal(dim1=1, dim2=2) / (counts * (counts - 1))).mean(1)
    between = total / (counts[:, :, None] * counts[:, None, :])
    inter = between.triu(1).sum((1, 2)) / (classes * (classes - 1) / 2)
    intra, inter = intra / sqrt(width), inter / sqrt(width)
    return GDV(intra, inter, intra - inter)


def without_blocks(
    d: Tensor, codes: Tensor, blocks: Tensor
) -> Iterator[tuple[Tensor, Tensor] | None]:
    """`class_sums` ``[1, rows left, classes left]`` and codes ``[1, rows left]`` without each block.

    For a jackknife, from one pass over `d`. Classes with fewer than two rows left are gone, and their rows;
    None where fewer than two classes are left. A bootstrap would be biased: two copies of a group
    pair all its rows once more.

    Args:
        d: ``[rows, rows]`` distances.
        codes: ``[rows]`` class numbers from 0.
        blocks: ``[rows]`` block numbers from 0.
    """
    codes, blocks = codes.to(d.device), blocks.to(d.device)
    classes, count = int(codes.max()) + 1, int(blocks.max()) + 1
    both = _member(blocks * classes + codes, classes * count, d.dtype)
    parts = (d @ both).view(-1, count, classes)
    whole = parts.sum(1)
    for block in range(count):
        left = torch.bincount(codes[blocks != block], minlength=classes)
        there = left > 1
        if int(there.sum()) < 2:
            yield None
            continue
        rows = (blocks != block) & there[codes]
        number = there.cumsum(0) - 1
        sums = (whole[rows] - parts[rows, block])[:, there]
        yield sums[None], number[codes[rows]][None]


def gdv_floor(counts: Iterable[float]) -> float:
    """No data with these class sizes can have a lower GDV.

    The variance of half-z-scored rows is a quarter of their width, whatever they are; spread over
    the pairs of classes so that the mean distance is largest (Cauchy and Schwarz), it gives
    ``-sqrt(sum over l<m of 1/(p_l p_m)) / (L (L-1))``. Classes of equal size reach it when each is
    a single point at a corner of a simplex (-1 for 2 classes, -0.745 for 10), two classes of any size
    when both are points (-1.67 for 10 % and 90 %).

    >>> gdv_floor([50, 50]), round(gdv_floor([1, 9]), 4)
    (-1.0, -1.6667)
    """
    sizes = torch.tensor(list(counts), dtype=torch.float64)
    share = sizes / sizes.sum()
    inverse = 1 / share
    pairs = (inverse.sum() ** 2 - inverse.square().sum()) / 2
    return -sqrt(float(pairs)) / (len(share) * (len(share) - 1))


def energy(d: Tensor, codes: Tensor) -> Tensor:
    """Energy distance of each pair of classes ``[classes, classes]``: ``2 d_lm - d_ll - d_mm``.

    The mean over all pairs, halved and divided by the root of the width, is the GDV with its sign
    turned; so the GDV of a population is 0 only where all classes have the same distribution.
    """
    member = _member(codes[None].to(d.device), int(codes.max()) + 1, d.dtype)[0]
    counts = member.sum(0)
    total = member.T @ d @ member
    mean = total / (counts[:, None] * counts)
    within = total.diagonal() / (counts * (counts - 1))
    found = 2 * mean - within[:, None] - within
    return found.fill_diagonal_(0.0)


def _member(codes: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """``[draws, rows, classes]``: 1 in the class of the row, else 0."""
    return torch.nn.functional.one_hot(codes, classes).to(dtype)
