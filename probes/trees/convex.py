"""The metric of least squares, which is convex: where the descent on the paper's loss begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.trees.quadratic import Form, gathered, projected, under
from layerscope.probes.trees.stacks import Stack

RIDGES = (1e-1, 1e-6)
"""Penalties that are tried, relative to the curvature of an average direction; strongest first."""
STEPS = 40
TOL = 1e-6
"""Residual, relative to the first, at which the conjugate gradient is done."""
WORDS = 6000
"""Words it is fitted on: there are about 2,000 unknowns."""


@dataclass(frozen=True)
class LeastSquares:
    """Minimises ``sum 1/|s|^2 (d(i, j) - truth)^2 + ridge * |M|^2`` over symmetric M."""

    h: Sequence[Tensor]
    """For each bucket ``[s, t, width]``; 0 beyond the end of a sentence."""
    truth: Sequence[Tensor]
    weight: Sequence[Tensor]
    """Of each pair (or word): a sentence weighs 1, what is beyond its end 0."""
    form: Form

    @classmethod
    def of(cls, h: Tensor, stacks: Sequence[Stack], form: Form) -> LeastSquares:
        """Sentences of like length share a bucket: few large products instead of many small ones."""
        buckets: dict[int, list[Stack]] = {}
        for stack in stacks:
            buckets.setdefault(_bucket(stack.length), []).append(stack)
        made = [_padded(h, part, form) for part in buckets.values()]
        words, truth, weight = zip(*made, strict=True)
        return cls(words, truth, weight, form)

    def __call__(self, metric: Tensor) -> Tensor:
        """The curvature applied to a metric."""
        parts = [
            gathered(h, weight * under(h, metric, self.form), self.form)
            for h, weight in zip(self.h, self.weight, strict=True)
        ]
        return torch.stack(parts).sum(0)

    @property
    def right(self) -> Tensor:
        parts = zip(self.h, self.truth, self.weight, strict=True)
        found = [gathered(h, weight * truth, self.form) for h, truth, weight in parts]
        return torch.stack(found).sum(0)

    def solve(self, ridge: float, start: Tensor) -> Tensor:
        """The metric ``[width, width]``, from a start."""
        return conjugate(lambda m: self(m) + ridge * m, self.right, start)


def _bucket(length: int) -> int:
    """Longest sentence that shares the bucket: each is a quarter longer than the one before."""
    longest = 4
    while longest < length:
        longest += max(2, longest // 4)
    return longest


def _padded(h: Tensor, stacks: Sequence[Stack], form: Form) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(stack.length for stack in stacks)
    parts: list[list[Tensor]] = [[], [], []]
    for stack in stacks:
        t, more = stack.length, longest - stack.length
        pad = (0, more) if form == "depth" else (0, more, 0, more)
        share = torch.full_like(stack.truth, 1 / t ** (1 if form == "depth" else 2))
        parts[0].append(torch.nn.functional.pad(h[stack.words], (0, 0, 0, more)))
        parts[1].append(torch.nn.functional.pad(stack.truth, pad))
        parts[2].append(torch.nn.functional.pad(share, pad))
    words, truth, weight = (torch.cat(part) for part in parts)
    return words, truth, weight


def conjugate(operator: Callable[[Tensor], Tensor], right: Tensor, start: Tensor) -> Tensor:
    """Solve ``operator(M) = right`` for a symmetric positive operator by conjugate gradients."""
    found = start.clone()
    residual = right - operator(found)
    direction = residual.clone()
    size = residual.square().sum()
    goal = TOL**2 * right.square().sum()
    for _ in range(STEPS):
        if size <= goal:
            break
        image = operator(direction)
        step = size / (direction * image).sum()
        found = found + step * direction
        residual = residual - step * image
        size, before = residual.square().sum(), size
        direction = residual + size / before * direction
    return found


def root(metric: Tensor, rank: int) -> Tensor:
    """``B [rank, width]`` with ``B'B`` nearest to the metric among those of this rank.

    Directions of negative square, which no metric has, are dropped; rows may be 0.
    """
    values, vectors = torch.linalg.eigh((metric + metric.T) / 2)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    scaled: Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return scaled


def warm_start(
    h: Tensor, train: Sequence[Stack], dev: Sequence[Stack], form: Form, rank: int
) -> Tensor:
    """``B [rank, width]``: the convex fit whose penalty loses least on sentences held out.

    Args:
        h: ``[words, width]`` coordinates of like scale.
        train: Sentences to fit; the first `WORDS` words of a fair mixture are used.
        dev: Sentences that choose the penalty.
    """
    part = thin(train, WORDS)
    problem = LeastSquares.of(h, part, form)
    width = h.shape[1]
    scale = _curvature(problem, width)
    metric = h.new_zeros(width, width)
    best, least = root(metric, rank), float("inf")
    for ridge in RIDGES:
        metric = problem.solve(ridge * scale, metric)
        found = root(metric, rank)
        lost = loss(h, found, dev, form)
        if lost < least:
            best, least = found, lost
    return best


def loss(h: Tensor, b: Tensor, stacks: Sequence[Stack], form: Form) -> float:
    """The paper's loss, a mean over sentences of the mean absolute error, in edges."""
    total = count = 0.0
    for stack in stacks:
        total += _sums(projected(h[stack.words] @ b.T, form), stack.truth).item()
        count += len(stack.sentences)
    return total / max(1.0, count)


def _sums(guess: Tensor, truth: Tensor) -> Tensor:
    return (guess - truth).abs().flatten(1).mean(1).sum()


def thin(stacks: Sequence[Stack], words: int) -> list[Stack]:
    """The same share of every length, so that about so many words remain."""
    total = sum(stack.words.numel() for stack in stacks)
    every = total / words
    if every <= 1:
        return list(stacks)
    parts = []
    for stack in stacks:
        take = torch.arange(0, len(stack.sentences), every).long()
        parts.append(Stack(stack.sentences[take], stack.words[take], stack.truth[take]))
    return parts


def _curvature(problem: LeastSquares, width: int) -> float:
    """Of the metric that has the same length in every direction, per direction."""
    h = problem.h[0]
    unit = torch.eye(width, device=h.device, dtype=h.dtype) / width**0.5
    return max(1e-12, float((problem(unit) * unit).sum()) / width)
