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
"""Draws of labels or weights that are worked on at a time."""


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


def gdv_many(d: Tensor, codes: Tensor, width: int) -> Tensor:
    """GDV ``[draws]`` of many labellings ``[draws, rows]`` of the same rows, from one distance matrix.

    Computed in the dtype of `d`: float32 is twice as fast, and off by 1e-6 at most.
    """
    found, first = [], 0
    for sums in class_sums(d, codes):
        found.append(gdv_of_sums(sums, codes[first : first + len(sums)], width).value)
        first += len(sums)
    return torch.cat(found)


def gdv_weighted(d: Tensor, codes: Tensor, width: int, weights: Tensor) -> Tensor:
    """GDV ``[draws]`` with rows drawn several times or not at all: a bootstrap, or a jackknife.

    A row is never paired with itself, so that copies do not pull a class together; classes without a
    pair are left out of the means. Two products per draw replace one per class: the mean distance
    between classes is that of all rows, weighted by class, less what lies within the classes.

    Args:
        d: ``[rows, rows]`` distances of half-z-scored rows.
        codes: ``[rows]`` class numbers from 0.
        width: Of the rows that `d` was computed from.
        weights: ``[draws, rows]`` how often a row is drawn.
    """
    weight, codes = weights.T.to(d), codes.to(d.device)  # [rows, draws]
    classes = int(codes.max()) + 1
    counts = torch.zeros(classes, weight.shape[1], dtype=d.dtype, device=d.device)
    squares = counts.index_add(0, codes, weight.square())
    counts = counts.index_add(0, codes, weight)
    inside = torch.stack(
        [_quadratic(d, weight, (codes == one).nonzero()[:, 0]) for one in range(classes)]
    )
    pairs = counts.square() - squares
    there = pairs > 0
    many = there.sum(0)
    share = (weight / counts[codes]).masked_fill(~there[codes], 0.0)
    within = (inside / counts.square()).masked_fill(~there, 0.0).sum(0)
    inter = ((share * (d @ share)).sum(0) - within) / (many * (many - 1))
    intra = (inside / pairs).masked_fill(~there, 0.0).sum(0) / many
    return (intra - inter) / sqrt(width)


def _quadratic(d: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """Sum over pairs of these rows of their distance times both weights, ``[draws]``."""
    own = weight[rows]
    return (own * (d[rows][:, rows] @ own)).sum(0)


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
