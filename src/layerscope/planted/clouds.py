"""Clouds of rows whose shape, and likeness to one another, is known exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(rows: int, variances: Tensor, *, mean: float = 0.0, seed: int = 0) -> Tensor:
    """Independent normal features ``[rows, features]`` float64 of these variances.

    The eigenvalues of the covariance are the variances, so participation ratio, effective rank and
    top share are known. With unit variances and every feature's mean at `mean`, the mean cosine of
    two rows is ``m / (m + features)``, ``m = features * mean**2``.
    """
    found: Tensor = mean + _normal(rows, len(variances), seed) * variances.double().sqrt()
    return found


def exactly_white(rows: int, features: int, *, seed: int = 0) -> Tensor:
    """Rows ``[rows, features]`` whose mean is 0 and whose covariance is the identity, exactly.

    Drawn as normal rows, then centred and made orthonormal: what is said of their second moments
    holds without any sampling error.

    Raises:
        ValueError: not more rows than features.
    """
    if rows <= features:
        raise ValueError(f"{rows} rows cannot be white in {features} features: give more rows")
    drawn = _normal(rows, features, seed)
    white: Tensor = torch.linalg.qr(drawn - drawn.mean(0))[0] * (rows - 1) ** 0.5
    return white


def power_law(features: int, exponent: float = 1.0) -> Tensor:
    """Variances ``i**-exponent``, i from 1."""
    ranks: Tensor = torch.arange(1, features + 1, dtype=torch.float64)
    return ranks.pow(-exponent)


def isotropic(features: int) -> Tensor:
    """Variances that are all 1: a participation ratio of `features`."""
    return torch.ones(features, dtype=torch.float64)


def cube(rows: int, dimension: int, width: int, *, seed: int = 0) -> Tensor:
    """Uniform points of a cube of that dimension, turned into ``[rows, width]``."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(rows, dimension, dtype=torch.float64, generator=generator)
    found: Tensor = points @ rotation(width, seed=seed + 1)[:dimension]
    return found


def rotation(width: int, *, seed: int = 0) -> Tensor:
    """An orthogonal matrix ``[width, width]``, uniformly at random."""
    q, r = torch.linalg.qr(_normal(width, width, seed))
    turned: Tensor = q * r.diagonal().sign()
    return turned


def blurred(x: Tensor, share: float, *, seed: int = 0) -> Tensor:
    """``share * x + sqrt(1 - share**2) * noise``: linear CKA with isotropic `x` is ``share**2``."""
    noise = _normal(x.shape[0], x.shape[1], seed)
    mixed: Tensor = share * x.double() + (1 - share**2) ** 0.5 * noise
    return mixed


def collapsed(rows: int, means: Tensor) -> tuple[Tensor, Tensor]:
    """Every row at the mean of its class, classes in turn: ``[rows, width]`` and classes ``[rows]``."""
    classes = torch.arange(rows) % len(means)
    return means.double()[classes], classes


def simplex(classes: int) -> Tensor:
    """Class means ``[classes, classes]`` that are all equally far apart, around 0."""
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def _normal(rows: int, features: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, features, dtype=torch.float64, generator=generator)
