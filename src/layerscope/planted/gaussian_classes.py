"""Classes of Gaussian rows, isotropic or not: what linear erasers and probes are tried on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class GaussianClasses:
    """Rows and the truth about them."""

    x: Tensor
    """``[rows, width]`` float64."""
    y: Tensor
    """``[rows]`` class numbers."""
    means: Tensor
    """``[classes, width]``"""
    covariance: Tensor
    """``[width, width]`` within every class."""


def gaussian_classes(
    classes: int,
    rows: int,
    width: int,
    *,
    gap: float,
    octaves: float = 0.0,
    seed: int = 0,
) -> GaussianClasses:
    """Classes at random places at a distance of about `gap` from each other.

    Args:
        gap: Distance between two class means, in standard deviations of isotropic noise; exact for
            two classes.
        octaves: How many times the noise doubles from its smallest to its largest direction, about
            a geometric mean of 1; directions are random.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = torch.linalg.qr(normal(width, classes))[0].T * gap / 2**0.5
    means = means - means.mean(0)
    axes = torch.linalg.qr(normal(width, width))[0]
    scales = 2.0 ** torch.linspace(-octaves / 2, octaves / 2, width, dtype=torch.float64)
    y = torch.randint(classes, (rows,), generator=generator)
    x = means[y] + (normal(rows, width) * scales) @ axes
    return GaussianClasses(x, y, means, axes.T @ (scales.square()[:, None] * axes))
