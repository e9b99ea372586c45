"""CKA: how alike two sets of features are, by the similarities they see between rows.

Kornblith et al. 2019; the unbiased form by Song et al. 2012, in batches by Nguyen et al. 2021. Each is
1 for rotated and rescaled features. The biased form is far above 0 for independent features where
rows are few (`permuted_cka` says how far), the unbiased one is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from layerscope.analyses.measures.distances import pairwise_sq
from layerscope.analyses.measures.pair_sums import PairSums, linear_sums, tile_sums


def hsic_biased(sums: PairSums) -> Tensor:
    """Inner products of the doubly centred matrices, ``[1 + blocks, S, S]``."""
    n = sums.n[:, None, None]
    product = sums.product + sums.diagonal
    shared = sums.shared + sums.mixed + sums.mixed.mT + sums.diagonal
    total = sums.total + sums.trace
    return product - 2 / n * shared + total[:, :, None] * total[:, None, :] / n**2


def hsic_unbiased(sums: PairSums) -> Tensor:
    """HSIC1 ``[1 + blocks, S, S]``; its mean over permuted rows is exactly 0.

    Raises:
        ValueError: fewer than 4 rows.
    """
    n = sums.n[:, None, None]
    if int(sums.n[0]) < 4:
        raise ValueError(f"unbiased HSIC needs at least 4 rows, there are {int(sums.n[0])}")
    totals = sums.total[:, :, None] * sums.total[:, None, :]
    inner = sums.product + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * sums.shared
    return inner / (n * (n - 3))


def normalised(hsic: Tensor) -> Tensor:
    """``h_lm / sqrt(h_ll h_mm)``; NaN where a site is constant, or its own HSIC is not above 0."""
    own = hsic.diagonal(dim1=-2, dim2=-1)
    own = torch.where(own > 0, own, torch.nan)
    return hsic / (own[..., :, None] * own[..., None, :]).sqrt()


def cka(x: Tensor, y: Tensor, *, unbiased: bool = True) -> float:
    """Linear CKA of ``x [rows, p]`` and ``y [rows, q]``.

    >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    >>> round(cka(x, 2 * x.flip(1)), 6)
    1.0
    """
    parts = [centred(x), centred(y)]
    hsic = (hsic_unbiased if unbiased else hsic_biased)(linear_sums(parts, (0, len(x))))
    return float(normalised(hsic)[0, 0, 1])


def rbf_sums(x: Sequence[Tensor], bounds: Sequence[int], *, bandwidth: float = 0.4) -> PairSums:
    """`PairSums` of Gaussian kernels; sigma is `bandwidth` times the median distance of two rows."""
    squares = [pairwise_sq(part) for part in x]
    scales = [-0.5 / (bandwidth**2 * _median(square)) for square in squares]
    ones = torch.ones(len(x), len(x[0]), dtype=torch.float64, device=x[0].device)

    def tile(site: int, rows: slice, columns: slice) -> Tensor:
        return (squares[site][rows, columns] * scales[site]).exp()

    return tile_sums(tile, ones, bounds)


def permuted_cka(sums: PairSums) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of biased CKA over all orders of the rows of one side.

    Exact. The mean is ``tr K tr L / ((n - 1) |K| |L|)``, for isotropic features about
    ``sqrt(pq / ((n + p)(n + q)))``; the deviation is that of Kazi-Aoual et al. (1995).

    Returns:
        ``[S, S]`` each.
    """
    n = float(sums.n[0])
    own = hsic_biased(sums)[0].diagonal()
    centres = sums.trace[0] - (sums.total[0] + sums.trace[0]) / n
    spread = centres.square() / own
    mean = (spread[:, None] * spread[None, :]).sqrt() / (n - 1)
    # Sum of squares of the diagonal of the doubly centred matrix.
    row = (sums.shared + 2 * sums.mixed + sums.diagonal)[0].diagonal()
    across = (sums.mixed + sums.diagonal)[0].diagonal()
    total = sums.total[0] + sums.trace[0]
    peaks = (
        sums.diagonal[0].diagonal()
        + 4 * row / n**2
        + total.square() / n**3
        - 4 * across / n
        + 2 * total * sums.trace[0] / n**2
        - 4 * total.square() / n**3
    )
    tail = (n - 1) / ((n - 3) * (n - 1 - spread))
    tail = tail * (n * (n + 1) * peaks / own / (n - 1) - spread - 2)
    left = n - 1 - spread
    variance = 2 * left[:, None] * left[None, :] / ((n + 1) * (n - 1) ** 2 * (n - 2))
    variance = variance * (1 + (n - 3) / (2 * n * (n - 1)) * tail[:, None] * tail[None, :])
    return mean, variance.clamp_min(0).sqrt()


def permuted_deviation(n: int) -> float:
    """Standard deviation of unbiased CKA over all orders of the rows of one side; its mean is 0.

    Exact, and the same for all features: a matrix without diagonal and without row sums leaves
    nothing else (compare the t test of Székely and Rizzo 2013).
    """
    return sqrt(2 / (n * (n - 3)))


class MinibatchCKA:
    """Linear unbiased CKA of S sites, a batch at a time: the ratio of HSIC1 averaged over batches."""

    def __init__(self) -> None:
        self._found: list[Tensor] = []

    def update(self, x: Sequence[Tensor]) -> None:
        """One batch: ``[rows, width]`` of each site; at least 4 rows."""
        sums = linear_sums([centred(part) for part in x], (0, len(x[0])))
        self._found.append(hsic_unbiased(sums)[0])

    def values(self) -> tuple[Tensor, Tensor]:
        """CKA ``[S, S]``, and without each batch ``[batches, S, S]``."""
        found = torch.stack(self._found)
        return normalised(found.sum(0)), normalised(found.sum(0) - found)


def centred(x: Tensor) -> Tensor:
    """Rows in float64 with the mean taken off."""
    x = x.double()
    return x - x.mean(0)


def _median(squares: Tensor) -> Tensor:
    """Squared median distance of two different rows."""
    above = torch.ones_like(squares, dtype=torch.bool).triu(1)
    # Not torch.quantile, which refuses more than 16 million values.
    return squares[above].median()
