"""Nearest centroid on what changed between the start and the end of a trace, over all layers.

CLUE (Liang et al. 2025) keeps two centroids per layer, of traces known to be correct and known to be
wrong, and trusts a new trace by which of them its own change of hidden state is nearer to. Nothing is
trained. Here every problem is judged by centroids of the other problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Metric = Literal["euclidean", "cosine"]
Score = Literal["margin", "closeness"]
_BLOCK = 4_000_000
"""Numbers of one block of rows, held in double precision a few times over."""


@dataclass(frozen=True)
class Distances:
    """How far each trace is from the centroids of the other problems, layer by layer."""

    right: Tensor
    """``[traces, layers]`` to the centroid of correct traces."""
    wrong: Tensor
    """``[traces, layers]`` to the centroid of wrong ones."""

    def score(self, weights: Sequence[float] | None = None, by: Score = "margin") -> Tensor:
        """``[traces]``, higher is more likely correct; averaged over layers, by weight if given.

        Args:
            weights: ``[layers]`` not negative; None weighs all alike.
            by: ``"margin"``: how much nearer the correct centroid is, positive where a trace is
                judged correct; ``"closeness"``: minus the distance to it, for ranking only.
        """
        share = torch.ones(self.right.shape[1]) if weights is None else torch.tensor(weights)
        if len(share) != self.right.shape[1] or share.min() < 0 or not share.sum():
            raise ValueError(
                f"weights must be {self.right.shape[1]} numbers from 0, one per layer, not all 0"
            )
        share = (share / share.sum()).to(self.right)
        return (self.wrong - self.right if by == "margin" else -self.right) @ share


def distances(
    deltas: Tensor | Sequence[Tensor],
    correct: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    *,
    metric: Metric = "euclidean",
    normalise: bool = False,
    experience: NDArray[np.bool_] | None = None,
) -> Distances:
    """Distances of every trace to both centroids, which no trace of its own problem entered.

    Args:
        deltas: ``[traces, layers, width]``, or one ``[traces, width]`` per layer.
        correct: ``[traces]``
        groups: ``[traces]`` problem numbers from 0; None: each trace is a problem.
        metric: ``"cosine"`` is 1 minus the cosine.
        normalise: Divide each layer by the root mean square of its deltas, so that layers with
            large states do not outweigh the others. Has no effect on cosines.
        experience: ``[traces]`` which traces may enter a centroid; None: all.

    Raises:
        ValueError: a problem without which one of the centroids has no trace.
    """
    layers = deltas.unbind(1) if isinstance(deltas, Tensor) else deltas
    owners = np.arange(len(correct)) if groups is None else groups
    used = np.ones(len(correct), bool) if experience is None else experience
    found = [
        layer_distances(layer, correct, owners, used, metric=metric, normalise=normalise)
        for layer in layers
    ]
    return Distances(*(torch.stack(side, 1) for side in zip(*found, strict=True)))


def layer_distances(
    delta: Tensor,
    correct: NDArray[np.bool_],
    groups: NDArray[np.int64],
    used: NDArray[np.bool_],
    *,
    metric: Metric = "euclidean",
    normalise: bool = False,
) -> tuple[Tensor, Tensor]:
    """``[traces]`` each: to the correct and to the wrong centroid, at one layer; in float64."""
    check_left(correct, groups, used)
    order = torch.from_numpy(np.argsort(groups, kind="stable"))
    delta, size = delta[order.to(delta.device)], rms(delta) if normalise else 1.0
    owner = torch.from_numpy(groups)[order].to(delta.device)
    side = torch.from_numpy(np.where(used, np.where(correct, 0, 1), 2))[order].to(delta.device)
    totals, counts = _sums(delta, side)
    found = torch.empty(2, len(delta), dtype=torch.float64, device=delta.device)
    for part in _blocks(owner, delta.shape[1]):
        rows = delta[part].double()
        held = owner[part].unique_consecutive(return_inverse=True)[1]
        for number in (0, 1):
            mine = torch.zeros(int(held.max()) + 1, rows.shape[1] + 1).to(rows)
            member = side[part] == number
            ones = torch.nn.functional.pad(rows[member], (0, 1), value=1.0)
            mine.index_add_(0, held[member], ones)
            left = (counts[number] - mine[:, -1:]).clamp_min(1)
            centroids = (totals[number] - mine[:, :-1]) / left
            found[number, part] = _apart(rows / size, centroids[held] / size, metric)
    back = order.argsort().to(delta.device)
    return found[0, back], found[1, back]


def rms(delta: Tensor) -> float:
    """Root mean square of all numbers of a layer, 1 where they are all 0."""
    return delta.double().square().mean().sqrt().item() or 1.0


def _apart(x: Tensor, centroid: Tensor, metric: Metric) -> Tensor:
    if metric == "cosine":
        return 1 - torch.nn.functional.cosine_similarity(x, centroid.expand_as(x), dim=-1)
    far: Tensor = torch.linalg.vector_norm(x - centroid, dim=-1)
    return far


def _sums(delta: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """``[2, width]`` sums of both sides in float64, and ``[2]`` how many were summed."""
    totals = torch.zeros(2, delta.shape[1], dtype=torch.float64, device=delta.device)
    step = max(1, _BLOCK // delta.shape[1])
    for rows, codes in zip(delta.split(step), side.split(step), strict=True):
        for number in (0, 1):
            totals[number] += rows[codes == number].double().sum(0)
    return totals, torch.stack([(side == number).sum() for number in (0, 1)])


def _blocks(owner: Tensor, width: int) -> Iterator[slice]:
    """Runs of rows that end where a problem does; `owner` is sorted."""
    sizes = torch.unique_consecutive(owner, return_counts=True)[1]
    most, start, stop = max(1, _BLOCK // width), 0, 0
    for size in sizes.tolist():
        if stop > start and stop + size - start > most:
            yield slice(start, stop)
            start = stop
        stop += size
    yield slice(start, stop)


def check_left(
    correct: NDArray[np.bool_], groups: NDArray[np.int64], used: NDArray[np.bool_]
) -> None:
    """Refuse where a problem holds all the traces of one side."""
    for name, side in (("correct", correct), ("wrong", ~correct)):
        if _in_one_problem(side & used, groups):
            raise ValueError(
                f"all {int((side & used).sum()):,} {name} traces belong to one problem, so there is no "
                "centroid from other problems to judge it by; give more problems"
            )


def judged(correct: NDArray[np.bool_], groups: NDArray[np.int64], used: NDArray[np.bool_]) -> bool:
    """Whether every problem has both centroids from other problems."""
    return not any(_in_one_problem(side & used, groups) for side in (correct, ~correct))


def _in_one_problem(there: NDArray[np.bool_], groups: NDArray[np.int64]) -> bool:
    return not there.any() or bool((np.bincount(groups, there) == there.sum()).any())


def balanced(correct: NDArray[np.bool_], *, seed: int = 0) -> NDArray[np.bool_]:
    """Which traces to use so that both sides have equally many; the larger side is drawn from."""
    sides = [np.flatnonzero(correct), np.flatnonzero(~correct)]
    fewest = min(map(len, sides))
    generator = np.random.default_rng(seed)
    used = np.zeros(len(correct), bool)
    for side in sides:
        used[generator.choice(side, fewest, replace=False)] = True
    return used
