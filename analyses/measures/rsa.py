"""Representational similarity analysis (Kriegeskorte et al. 2008): rank correlation of dissimilarities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from layerscope.analyses.measures.pair_sums import PairSums, tile_sums
from layerscope.probes.solving.solver import full_precision


def rdm(x: Tensor, *, pearson: bool = True) -> Tensor:
    """``1 - Pearson`` of every pair of rows over the features, ``[rows, rows]`` float64.

    Pearson takes the mean over the features off each row, which a rotation of the features does not
    leave alone; ``pearson=False`` is ``1 - cosine``, which any rotation does. A row without spread
    has dissimilarity 1 to all others.
    """
    x = x.double()
    x = x - x.mean(1, keepdim=True) if pearson else x
    norms = x.norm(dim=1, keepdim=True)
    x = torch.where(norms > 0, x / norms.clamp_min(1e-300), 0.0)
    with full_precision():
        return 1 - x @ x.T


def rank_sums(rdms: Sequence[Tensor], bounds: Sequence[int]) -> PairSums:
    """`PairSums` of the ranks of the dissimilarities; equal ones share their mean rank."""
    ranks = [_ranks(one) for one in rdms]
    zeros = torch.zeros(len(ranks), len(ranks[0]), dtype=torch.float64, device=ranks[0].device)
    return tile_sums(lambda s, rows, columns: ranks[s][rows, columns].double(), zeros, bounds)


def correlation(sums: PairSums) -> Tensor:
    """Pearson correlation of the entries off the diagonal, ``[1 + blocks, S, S]``."""
    pairs = (sums.n * (sums.n - 1))[:, None, None]
    inner = sums.product - sums.total[:, :, None] * sums.total[:, None, :] / pairs
    own = inner.diagonal(dim1=-2, dim2=-1)
    own = torch.where(own > 0, own, torch.nan)
    return inner / (own[..., :, None] * own[..., None, :]).sqrt()


def permuted_deviation(sums: PairSums) -> Tensor:
    """Standard deviation ``[S, S]`` of that correlation over all orders of the rows; its mean is 0.

    Exact (Mantel 1967).
    """
    n, pairs = float(sums.n[0]), float(sums.n[0] * (sums.n[0] - 1))
    own = sums.product[0].diagonal() - sums.total[0].square() / pairs
    rows = sums.shared[0].diagonal() - sums.total[0].square() / n
    one = (rows - own) / own  # two entries that share a row
    none = -4 * one - 2  # two entries that share nothing
    variance = (
        2 / pairs
        + 4 * one[:, None] * one[None, :] / (pairs * (n - 2))
        + none[:, None] * none[None, :] / (pairs * (n - 2) * (n - 3))
    )
    return variance.clamp_min(0).sqrt()


def _ranks(matrix: Tensor) -> Tensor:
    """Mean ranks of the upper triangle, mirrored, around 0 and scaled to within 1."""
    from scipy.stats import rankdata

    n = len(matrix)
    above = torch.triu(torch.ones(n, n, dtype=torch.bool), 1).numpy()
    ranks = torch.from_numpy(rankdata(matrix.cpu().numpy()[above]))
    ranks = 2 * ranks / len(ranks) - 1 - 1 / len(ranks)
    found = torch.zeros(n, n)
    found[torch.from_numpy(above)] = ranks.float()
    return (found + found.T).to(matrix.device)
