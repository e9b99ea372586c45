"""Where an AST probe begins: directions that tell heights and labels, each by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from layerscope.probes.trees.convex import LeastSquares
from layerscope.probes.trees.coordinates import Coordinates

RIDGE = 1e-7
"""Relative to the mean variance of a feature: only against singular matrices."""
COMPONENTS = 64
"""Principal components of steps that heights are fitted on."""
SHORT = 0.03
"""Deviation of a direction, relative to the median, below which it is left out there."""
NEW = 0.3
"""Share of a direction that must be outside of those before it: less is noise of the estimate."""
GAIN = 5.0
"""From regression on 0 and 1 to scores whose softmax is as sure."""


@dataclass(frozen=True)
class Start:
    """Parameters of one probe before the descent."""

    projection: Tensor
    """``[width, rank]``, orthonormal columns."""
    labels: Tensor
    """``[labels, rank]``"""
    unary: Tensor
    """``[unary labels, rank]``"""
    scale: Tensor
    """``[]`` height of one unit of squared length."""


def start(
    h: Tensor,
    steps: Tensor,
    heights: Tensor,
    labels: Tensor,
    unary: Tensor,
    rank: int,
    sizes: tuple[int, int],
) -> Start:
    """From training words.

    Args:
        h: ``[words, width]``.
        steps: ``[boundaries, width]`` from each word to the next.
        heights: ``[boundaries]``.
        labels: ``[boundaries]`` numbers.
        unary: ``[words]`` numbers.
        sizes: How many labels there are, of each sort.
    """
    basis = _long_directions(steps)
    by_label = basis @ _regressed(steps @ basis, labels, sizes[0])
    by_word = _regressed(h, unary, sizes[1])
    tall = _height_directions(steps, heights, basis[:, :COMPONENTS])
    parts = [tall, _leading(by_word, rank), _leading(by_label, rank)]
    projection = _orthonormal(parts, steps, rank)
    near, alone = steps @ projection, h @ projection
    scale = 2 * heights.mean() / near.square().sum(1).mean().clamp_min(1e-12)
    return Start(
        projection,
        GAIN * _regressed(near, labels, sizes[0]).T,
        GAIN * _regressed(alone, unary, sizes[1]).T,
        scale,
    )


def _regressed(x: Tensor, codes: Tensor, count: int) -> Tensor:
    """``[width, count]``: ridge regression on which code a row has."""
    rows = x.double() - x.double().mean(0)
    target = torch.nn.functional.one_hot(codes, count).double()
    moment = rows.T @ rows / len(rows)
    moment.diagonal().add_(RIDGE * moment.diagonal().mean().clamp_min(1e-30))
    found = torch.linalg.solve(moment, rows.T @ (target - target.mean(0)) / len(rows))
    weights: Tensor = found.to(x.dtype)
    return weights


def _leading(weights: Tensor, count: int) -> Tensor:
    """An orthonormal basis of what the weights span, what matters most first."""
    vectors, sizes, _ = torch.linalg.svd(weights, full_matrices=False)
    kept = max(1, min(count, int((sizes > 1e-4 * sizes[0]).sum())))
    leading: Tensor = vectors[:, :kept]
    return leading


def _long_directions(steps: Tensor) -> Tensor:
    """``[width, kept]`` principal components of steps, of unit scale, without very short ones.

    A short direction adds nothing to a length, and its share of a fit is all noise.
    """
    basis = Coordinates.of(steps, steps.shape[1], centred=False).basis
    sizes = 1 / basis.norm(dim=0)
    return basis[:, sizes > SHORT * sizes.median()].contiguous()


def _height_directions(steps: Tensor, heights: Tensor, basis: Tensor) -> Tensor:
    """What a metric under which the square of a step is nearest to its height looks at."""
    z, few = (steps @ basis).contiguous(), basis.shape[1]
    weight = torch.full_like(heights, 1 / len(heights))
    problem = LeastSquares([z[None]], [heights[None]], [weight[None]], "depth")
    metric = problem.solve(1e-3 / few, z.new_zeros(few, few))
    values, vectors = torch.linalg.eigh((metric + metric.T) / 2)
    chosen = basis @ vectors.flip(1)[:, : max(1, int((values > 0.05 * values.max()).sum()))]
    unit: Tensor = chosen / chosen.norm(dim=0)
    return unit


def _orthonormal(parts: list[Tensor], steps: Tensor, rank: int) -> Tensor:
    """Directions of the parts in turn, filled up with those in which steps are smallest."""
    turns = zip_longest(*(part.T for part in parts))
    wanted = [vector for turn in turns for vector in turn if vector is not None]
    quiet = torch.linalg.eigh(steps.T @ steps)[1]
    found = steps.new_zeros(steps.shape[1], rank)
    count = 0
    for vector in [*wanted, *quiet.T]:
        rest = vector / vector.norm().clamp_min(1e-12)
        for _ in range(2):  # twice is enough for orthogonality to rounding
            rest = rest - found @ (found.T @ rest)
        if count < rank and rest.norm() > NEW:
            found[:, count] = rest / rest.norm()
            count += 1
    return found[:, :count]
