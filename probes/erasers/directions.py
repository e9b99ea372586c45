"""Erasers by orthogonal projection: class means, random directions, directions of given variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.erasers.eraser import Eraser

_POWER = 100.0


def projection(basis: Tensor, center: Tensor, method: str, **words: Any) -> Eraser:
    """The eraser of the span of orthonormal columns ``[width, rank]``, about `center`."""
    return Eraser(
        remove=basis, read=basis.T.contiguous(), center=center.double(), method=method, **words
    )


def mean_difference(x: Tensor, codes: NDArray[np.int64], **words: Any) -> Eraser:
    """Project out the span of the differences between class means; rank at most classes - 1.

    The class means become equal, so no linear probe is left anything; but it moves `x` further
    than LEACE does.
    """
    wide = x.double().cpu()
    means = torch.stack([wide[torch.from_numpy(codes == k)].mean(0) for k in np.unique(codes)])
    center = wide.mean(0)
    left, strengths, _ = torch.linalg.svd((means - means.mean(0)).T, full_matrices=False)
    kept = strengths > 1e-10 * strengths[0].clamp_min(1e-300)
    return projection(left[:, kept], center, "mean_difference", **words)


def random_directions(center: Tensor, rank: int, *, seed: int, **words: Any) -> Eraser:
    """Project out `rank` directions, uniformly at random."""
    width = len(center)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, min(rank, width), generator=generator, dtype=torch.float64)
    return projection(torch.linalg.qr(drawn)[0], center, "random", **words)


def matched_directions(
    covariance: Tensor, center: Tensor, rank: int, variance: float, *, seed: int, **words: Any
) -> Eraser:
    """Project out `rank` random directions that carry as much variance as asked.

    Random vectors are drawn along the principal axes, each axis weighted by a power of its
    variance: power 0 is `random_directions`, large powers tend to the first axes, negative ones to
    the last. The power is found by bisection, for this draw.

    Args:
        covariance: ``[width, width]``.
        variance: What shall be removed, as the mean of ``|r(x) - x|**2``; where no `rank`
            directions carry as much (or as little), the nearest.
    """
    values, axes = torch.linalg.eigh(covariance.double())
    values = values.clamp_min(0)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(values), rank, generator=generator, dtype=torch.float64)

    def removed(power: float) -> float:
        return float((_along(values, drawn, power).square() * values[:, None]).sum())

    low, high = -_POWER, _POWER
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if removed(middle) < variance else (low, middle)
    return projection(axes @ _along(values, drawn, (low + high) / 2), center, "matched", **words)


def _along(values: Tensor, drawn: Tensor, power: float) -> Tensor:
    """Orthonormal ``[width, rank]`` with the span of `drawn`, row i weighted by ``values[i]**(power/2)``.

    The columns are first combined so that the rows of largest weight are a multiple of the identity:
    the span is the same, and no power makes them dependent by rounding.
    """
    rank = drawn.shape[1]
    logs = (values / values.max()).clamp_min(1e-12).log() * (power / 2)
    order = logs.argsort(descending=True)
    heavy, light = order[:rank], order[rank:]
    columns = torch.zeros_like(drawn)
    columns[heavy] = torch.eye(rank, dtype=drawn.dtype)
    columns[light] = torch.linalg.solve(drawn[heavy].T, drawn[light].T).T * torch.exp(
        logs[light][:, None] - logs[heavy]
    )
    orthonormal: Tensor = torch.linalg.qr(columns)[0]
    return orthonormal


def removed_variance(eraser: Eraser, covariance: Tensor) -> float:
    """Mean of ``|r(x) - x|**2`` over rows of this covariance about the eraser's center."""
    read, remove = eraser.read.double(), eraser.remove.double()
    return float(((remove.T @ remove) * (read @ covariance.double() @ read.T)).sum())
