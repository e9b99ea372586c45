"""Erasers of a label: classes whose means and noise are known, and labels that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.probing import FITTED, KNOW, THERE, phi
from layerscope.calibration.instruments.rows import planted_store
from layerscope.calibration.instruments.sampling import three_errors

if TYPE_CHECKING:
    from torch import Tensor

    from layerscope.planted.gaussian_classes import GaussianClasses
    from layerscope.probes.erasers import Eraser

ROWS, WIDTH, GAP = 3000, 12, 4.0
FLOAT32 = 1e-5
"""Stores keep float32: means of rows of size 10 are right to 1e-6."""


def _planted(
    classes: int, seed: int, *, octaves: float = 0.0, width: int = WIDTH
) -> GaussianClasses:
    from layerscope.planted.gaussian_classes import gaussian_classes

    return gaussian_classes(classes, ROWS, width, gap=GAP, octaves=octaves, seed=seed)


def _fitted(x: Tensor, y: Tensor, seed: int, **options: Any) -> Eraser:
    from layerscope.probes.erasers import fit_eraser

    names = [f"c{int(k)}" for k in y]
    with planted_store({THERE: x}, label=names, group=range(len(x))) as store:
        return fit_eraser(store, THERE, "label", seed=seed, **options)


def _means(x: Tensor, y: Tensor) -> Tensor:
    import torch

    return torch.stack([x[y == k].mean(0) for k in y.unique()])


def _apart(x: Tensor, y: Tensor) -> float:
    """Largest distance of a class mean from the mean of all rows."""
    return float((_means(x, y) - x.mean(0)).norm(dim=1).max())


def _leace(seed: int) -> Iterator[Reading]:
    import torch

    planted = _planted(4, seed, octaves=4)
    x, y = planted.x.float().double(), planted.y
    eraser = _fitted(x, y, seed)
    yield Reading("directions erased", 3.0, float(eraser.rank))
    yield Reading("class means apart afterwards", 0.0, _apart(eraser(x), y), FLOAT32)
    # Of all maps that erase, the least change: row by row the solution of a least-squares problem.
    found = torch.eye(WIDTH, dtype=torch.float64) - eraser.remove @ eraser.read
    gap = (found - _least(x, y)).abs().max()
    yield Reading("largest error of its matrix", 0.0, float(gap), FLOAT32)
    # Two bits, and a label that is their exclusive or: no class mean differs from another.
    corners = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]]).repeat(20, 1)
    nothing = _fitted(corners, torch.tensor([0, 1, 1, 0]).repeat(20), seed)
    yield Reading("directions erased, nothing linear planted", 0.0, float(nothing.rank))


def _least(x: Tensor, y: Tensor) -> Tensor:
    """The matrix A of least ``tr((A - 1) S (A - 1)')`` with ``A C = 0``: 1 - C m with m solved for."""
    import torch

    z = torch.nn.functional.one_hot(y).double()[:, 1:]
    covariance = torch.cov(x.T, correction=0)
    cross = (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)
    inverse = torch.linalg.inv(covariance)
    multipliers = torch.linalg.solve(cross.T @ inverse @ cross, cross.T)
    found: Tensor = torch.eye(len(covariance), dtype=x.dtype) - (inverse @ cross @ multipliers).T
    return found


def _inlp(seed: int) -> Iterator[Reading]:
    planted = _planted(2, seed)
    eraser = _fitted(planted.x, planted.y, seed, method="inlp", folds=3)
    scores, held = eraser.about["scores"], ROWS // 3
    best = phi(GAP / 2)
    yield Reading("accuracy of its first probe", best, scores[0], three_errors(best, held) + FITTED)
    yield Reading("accuracy of its last probe", 0.5, scores[-1], three_errors(0.5, held))
    basis = eraser.remove
    import torch

    gap = (basis.T @ basis - torch.eye(eraser.rank, dtype=basis.dtype)).abs().max()
    yield Reading("directions at right angles", 0.0, float(gap), FLOAT32)


def _mean_difference(seed: int) -> Iterator[Reading]:
    planted = _planted(3, seed)
    x, y = planted.x.float().double(), planted.y
    eraser = _fitted(x, y, seed, method="mean_difference")
    yield Reading("directions erased", 2.0, float(eraser.rank))
    yield Reading("class means apart afterwards", 0.0, _apart(eraser(x), y), FLOAT32)


def _random(seed: int) -> Iterator[Reading]:
    width, rank = 200, 100
    planted = _planted(2, seed, width=width)
    eraser = _fitted(planted.x, planted.y, seed, method="random", rank=rank)
    yield Reading("directions erased", float(rank), float(eraser.rank))
    gap = planted.means[1] - planted.means[0]
    left = (gap - eraser.remove.double() @ (eraser.read.double() @ gap)).square().sum()
    # The share of a vector outside random directions is a beta variable.
    mean = 1 - rank / width
    error = sqrt(2 * mean * (1 - mean) / (width + 2))
    yield Reading(
        "share of the squared gap that is left", mean, float(left / gap.square().sum()), 3 * error
    )


GAUSSIAN = "Classes of Gaussian rows with known means, in known noise."
INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "eraser.leace", KNOW, GAUSSIAN, "least squares under A C = 0 (arXiv 2306.03819)", _leace
    ),
    Instrument("eraser.inlp", KNOW, GAUSSIAN, "Phi(gap / 2), and a coin", _inlp),
    Instrument("eraser.mean_difference", KNOW, GAUSSIAN, "by construction", _mean_difference),
    Instrument(
        "eraser.random", KNOW, GAUSSIAN, "1 - rank / width, the mean of a beta variable", _random
    ),
)
