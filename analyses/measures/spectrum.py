"""How many directions a cloud of rows fills, from the eigenvalues of its covariance.

All take eigenvalues ``[..., features]`` in any order and unit, and do not change with their scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

RANKS = (3, 0.5)
"""The power law is fitted from this rank to this share of the ranks that carry variance."""


def participation_ratio(values: Tensor) -> Tensor:
    """``(sum v)**2 / sum v**2``: from 1 (one direction) to the number of features (all alike).

    >>> participation_ratio(torch.tensor([1.0, 1.0, 1.0, 1.0])).item()
    4.0
    """
    values = values.double()
    return values.sum(-1).square() / values.square().sum(-1)


def corrected_participation_ratio(trace: Tensor, squares: Tensor, fourth: Tensor, n: int) -> Tensor:
    """The participation ratio with numerator and denominator free of bias: of the population.

    With few rows the eigenvalues spread, and the plain ratio is too low: ``1/PR`` by about
    ``1/(n - 1)``. Here both sums are U-statistics (Himeno and Yamada 2014), right for rows of any
    distribution. Where the population has far more than n directions the value is large and
    uncertain, and it may be negative: there is then no sign of any correlation.

    Args:
        trace: Trace of the covariance ``C`` (divided by n - 1).
        squares: Trace of ``C @ C``.
        fourth: Sum over rows of the fourth power of their distance from the mean.
        n: Rows, at least 4.
    """
    scale = (n - 1) / (n * (n - 2) * (n - 3))
    q = n * fourth / (n - 1)
    below = scale * ((n - 1) * (n - 2) * squares + trace.square() - q)
    above = scale * (2 * squares + (n * n - 3 * n + 1) * trace.square() - q)
    return above / below


def effective_rank(values: Tensor) -> Tensor:
    """``exp`` of the entropy of the shares of variance (Roy and Vetterli 2007), from 1 up."""
    shares = _shares(values)
    return torch.exp(-torch.xlogy(shares, shares).sum(-1))


def stable_rank(values: Tensor) -> Tensor:
    """``sum v / max v``: squared Frobenius norm over squared spectral norm of the centred rows."""
    return 1 / top_share(values)


def top_share(values: Tensor) -> Tensor:
    """Share of the variance along the first principal component, 0 to 1."""
    return _shares(values).amax(-1)


def power_law(values: Tensor) -> Tensor:
    """``a`` of ``v_i ~ i**-a``: least squares of log value on log rank, each rank weighted 1/rank.

    As Stringer et al. (2019); between the ranks of `RANKS`. NaN with fewer than 5 ranks to fit.
    """
    ordered = values.double().sort(-1, descending=True).values
    carried = ordered > 1e-9 * ordered[..., :1]
    last = max(RANKS[0], int(carried.sum(-1).min() * RANKS[1]))
    ranks = torch.arange(RANKS[0], last + 1, dtype=torch.float64, device=values.device)
    if len(ranks) < 5:
        return torch.full(values.shape[:-1], torch.nan, dtype=torch.float64, device=values.device)
    weight = 1 / ranks / (1 / ranks).sum()
    x = ranks.log() - (weight * ranks.log()).sum()
    y = ordered[..., RANKS[0] - 1 : last].log()
    return -(weight * x * y).sum(-1) / (weight * x.square()).sum()


def isotropic_participation_ratio(n: int, width: int) -> float:
    """What `participation_ratio` gives for `n` rows of independent features of one variance.

    >>> round(isotropic_participation_ratio(1000, 100), 1)
    91.0
    """
    return 1 / (1 / width + (1 - 1 / width) / (n - 1))


def gaussian_eigenvalues(variances: Tensor, n: int, *, draws: int, seed: int = 0) -> Tensor:
    """Eigenvalues of the covariance of `n` rows of independent normal features, ``[draws, features]``.

    What is left of a cloud when nothing but the variance of each feature is kept. The covariance is
    drawn itself (Bartlett 1933), not the rows. With fewer rows than features the missing eigenvalues
    are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    width = len(variances)
    deviations = variances.double().cpu().sqrt()
    found = torch.zeros(draws, width, dtype=torch.float64)
    for draw in range(draws):
        if n - 1 < width:
            rows = torch.randn(n, width, dtype=torch.float64, generator=generator) * deviations
            rows -= rows.mean(0)
            gram = (rows @ rows.T).to(variances.device)
            found[draw, :n] = torch.linalg.eigvalsh(gram).cpu().clamp_min(0)
        else:
            factor = _bartlett(n - 1, width, generator) * deviations[:, None]
            gram = (factor @ factor.T).to(variances.device)
            found[draw] = torch.linalg.eigvalsh(gram).cpu().clamp_min(0)
    return found.sort(-1, descending=True).values / (n - 1)


def _bartlett(freedom: int, width: int, generator: torch.Generator) -> Tensor:
    """Lower triangular ``[width, width]`` whose product with its transpose is a Wishart draw."""
    factor = torch.randn(width, width, dtype=torch.float64, generator=generator).tril(-1)
    half = (freedom - torch.arange(width, dtype=torch.float64)) / 2
    squares = 2 * torch._standard_gamma(half, generator=generator)
    return factor + torch.diag(squares.sqrt())


def _shares(values: Tensor) -> Tensor:
    values = values.double().clamp_min(0)
    return values / values.sum(-1, keepdim=True)
