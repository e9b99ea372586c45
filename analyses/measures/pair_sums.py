"""Sums over pairs of rows, for many symmetric matrices at once: what CKA and RSA are made of.

All sites together: every strip of every matrix is made once, and one product of the stacked strips
gives the sums of all pairs of sites. The same pass gives them without each block of rows, for
intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

Tile = Callable[[int, slice, slice], Tensor]
"""Rows and columns of the matrix of one site, float64."""
TILE = 256
"""Rows and columns of a tile, at most."""


@dataclass(frozen=True, eq=False)
class PairSums:
    """Sums over pairs of *different* rows i, j of symmetric matrices ``K`` of S sites.

    Entry 0 of each tensor is of all rows; entry 1 + b of all rows without block b.
    """

    n: Tensor
    """``[1 + blocks]`` rows"""
    product: Tensor
    """``[1 + blocks, S, S]`` sum of ``K_ij L_ij``"""
    shared: Tensor
    """``[1 + blocks, S, S]`` sum over rows of ``(sum_j K_ij) (sum_j L_ij)``"""
    total: Tensor
    """``[1 + blocks, S]`` sum of ``K_ij``"""
    diagonal: Tensor
    """``[1 + blocks, S, S]`` sum of ``K_ii L_ii``"""
    mixed: Tensor
    """``[1 + blocks, S, S]`` sum over rows of ``(sum_j K_ij) L_ii``"""
    trace: Tensor
    """``[1 + blocks, S]`` sum of ``K_ii``"""


def tile_sums(tile: Tile, diagonal: Tensor, bounds: Sequence[int]) -> PairSums:
    """Sums of matrices that are made tile by tile; only the tiles on and above the diagonal are.

    Args:
        tile: Called with a site, rows and columns.
        diagonal: ``[S, rows]`` of each matrix.
        bounds: First row of each block, and the end.
    """
    sites, n = diagonal.shape
    blocks = len(bounds) - 1
    device = diagonal.device
    # A block's products with all rows, and with itself; row sums within each block of columns.
    touching = torch.zeros(blocks, sites, sites, dtype=torch.float64, device=device)
    within = torch.zeros_like(touching)
    partial = torch.zeros(blocks, sites, n, dtype=torch.float64, device=device)
    pieces = _pieces(bounds)
    with full_precision():
        for (a, rows), (b, columns) in combinations_with_replacement(pieces, 2):
            strip = torch.stack([tile(site, rows, columns) for site in range(sites)])
            if rows == columns:
                strip.diagonal(dim1=1, dim2=2).zero_()
            partial[b, :, rows] += strip.sum(2)
            flat = strip.flatten(1)
            products = flat @ flat.T
            if rows != columns:
                partial[a, :, columns] += strip.sum(1)
                touching[b] += products
            touching[a] += products
            if a == b:
                within[a] += products * (1 if rows == columns else 2)
    # Tiles above the diagonal of a block count once for each of their two sides.
    product = touching.sum(0)
    left = product - 2 * touching + within
    return _finished(torch.cat([product[None], left]), partial, diagonal, bounds)


def linear_sums(x: Sequence[Tensor], bounds: Sequence[int]) -> PairSums:
    """Sums of the matrices of inner products of rows, in the cheaper of two ways.

    Gram matrices cost ``rows**2`` times all widths together, cross-covariances of the features
    ``rows`` times the square of all widths together; equal results.

    Args:
        x: ``[rows, width]`` of each site, float64, centred; rows of a block are adjacent.
        bounds: First row of each block, and the end.
    """
    n, widths = len(x[0]), sum(part.shape[1] for part in x)
    diagonal = torch.stack([part.square().sum(1) for part in x])
    if n * (widths + len(x) ** 2) <= widths**2:
        return tile_sums(lambda s, rows, columns: x[s][rows] @ x[s][columns].T, diagonal, bounds)
    return _feature_sums(x, diagonal, bounds)


def _feature_sums(x: Sequence[Tensor], diagonal: Tensor, bounds: Sequence[int]) -> PairSums:
    sites, blocks = len(x), len(bounds) - 1
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    product = torch.zeros(1 + blocks, sites, sites, dtype=torch.float64, device=diagonal.device)
    with full_precision():
        for i in range(sites):
            for j in range(i, sites):
                crosses = torch.stack([x[i][part].T @ x[j][part] for part in parts])
                whole = crosses.sum(0)
                product[0, i, j] = whole.square().sum()
                product[1:, i, j] = (whole - crosses).square().flatten(1).sum(1)
                product[:, j, i] = product[:, i, j]
        sums = [torch.stack([part_of[part].sum(0) for part in parts]) for part_of in x]
        partial = torch.stack([s @ part.T for s, part in zip(sums, x, strict=True)], dim=1)
    for b, part in enumerate(parts):
        partial[b, :, part] -= diagonal[:, part]
    own = torch.stack([_without(diagonal, part) for part in (slice(0, 0), *parts)])
    return _finished(product - own, partial, diagonal, bounds)


def _without(diagonal: Tensor, part: slice) -> Tensor:
    left = torch.cat([diagonal[:, : part.start], diagonal[:, part.stop :]], 1)
    return left @ left.T


def _finished(
    product: Tensor, partial: Tensor, diagonal: Tensor, bounds: Sequence[int]
) -> PairSums:
    """The remaining sums, from the row sums within each block of columns."""
    n = int(bounds[-1])
    rows = partial.sum(0)
    found: list[list[Tensor]] = []
    for block in range(-1, len(bounds) - 1):
        if block < 0:
            r, d = rows, diagonal
        else:
            kept = torch.ones(n, dtype=torch.bool, device=diagonal.device)
            kept[bounds[block] : bounds[block + 1]] = False
            r, d = (rows - partial[block])[:, kept], diagonal[:, kept]
        found.append([r @ r.T, r.sum(1), d @ d.T, r @ d.T, d.sum(1)])
    shared, total, squares, mixed, trace = (
        torch.stack([entry[k] for entry in found]) for k in range(5)
    )
    sizes = [n, *(n - (b - a) for a, b in pairwise(bounds))]
    counts = torch.tensor(sizes, dtype=torch.float64, device=diagonal.device)
    return PairSums(counts, product, shared, total, squares, mixed, trace)


def _pieces(bounds: Sequence[int]) -> list[tuple[int, slice]]:
    """Blocks, cut where they are larger than a tile."""
    return [
        (block, slice(first, min(first + TILE, stop)))
        for block, (start, stop) in enumerate(pairwise(bounds))
        for first in range(start, stop, TILE)
    ]
