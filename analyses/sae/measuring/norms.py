"""Whether codes are as long as what they stand for: norms, and the coherence that their gap implies.

Of nearly orthogonal directions the code is as long as the vector that they add up to. With
``|d_i . d_j| <= eps`` and k active latents, ``| |z|^2 - |f|^2 | <= eps (k - 1) |f|^2`` (Lee et al.
2025, arXiv 2503.24277, who write h, the number of all latents, for k: a bound 100 times looser).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONES = (0.25, 0.5, 1.0)
"""Gaps ``| |z|^2 - |f|^2 | / |f|^2`` whose limits are drawn."""


@dataclass(frozen=True)
class Norms:
    """Of some rows, float64."""

    dense: Tensor
    """[rows], norm of z: what the latents add up to, or are asked to."""
    sparse: Tensor
    """[rows], norm of the codes, each times the norm of its decoder row."""
    active: Tensor
    """[rows], how many terms are not zero."""


def norms(y: Tensor, codes: Tensor, lengths: Tensor, b_dec: Tensor, *, bias: bool = False) -> Norms:
    """Norms of rows and of their codes.

    Args:
        y: What is to be reconstructed, [rows, d_out].
        codes: [rows, latents].
        lengths: Norms of the decoder's rows, [latents].
        b_dec: [d_out].
        bias: The paper's notebook: y itself, and the bias as one more latent that is always on.
            False: ``y - b_dec`` and the latents alone.
    """
    row, latent = codes.nonzero(as_tuple=True)
    terms = (codes[row, latent].double() * lengths.double()[latent]).square_()
    squared = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
    squared.index_add_(0, row, terms)
    return of_sums(y, squared, (codes != 0).sum(1), b_dec, bias=bias)


def of_sums(y: Tensor, squared: Tensor, active: Tensor, b_dec: Tensor, *, bias: bool) -> Norms:
    """The same from [rows] sums of the squared codes and their numbers."""
    y, b_dec = y.double(), b_dec.double()
    if bias:
        return Norms(y.norm(dim=1), (squared + b_dec.square().sum()).sqrt(), active + 1)
    return Norms((y - b_dec).norm(dim=1), squared.sqrt(), active)


def elbo(found: Norms, terms: int | Tensor) -> Tensor:
    """[rows] smallest eps that two norms allow: ``| |z|^2 - |f|^2 | / ((terms - 1) |f|^2)``.

    NaN where the code is empty, or has one term, whose gap says nothing about pairs.

    Args:
        found: Norms of the rows.
        terms: Number of latents h (the paper's loose bound), or [rows], those that are active.
    """
    dense, sparse = found.dense.square(), found.sparse.square()
    pairs = torch.as_tensor(terms, device=dense.device).double() - 1
    value = (dense - sparse).abs() / (pairs * sparse)
    return value.where((pairs > 0) & (sparse > 0), torch.nan)


def cone(dense: Tensor, gap: float) -> tuple[Tensor, Tensor]:
    """Least and largest norm of the code at a norm of z, where the gap is ``eps (h - 1)``.

    ``|z| / sqrt(1 + gap) <= |f| <= |z| / sqrt(1 - gap)``; there is no upper end from a gap of 1.
    """
    upper = dense / (1 - gap) ** 0.5 if gap < 1 else torch.full_like(dense, torch.inf)
    return dense / (1 + gap) ** 0.5, upper
