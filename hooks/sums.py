"""Which observed tensors add up to which: the additions by which a block writes to its stream.

A path from a block's input to its output is searched among the tensors seen inside it. A step of
the path adds one tensor (or two, where sublayers run in parallel) to the stream, or passes it
through a norm. Simple explanations are tried before scaled and double ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from layerscope.hooks.observe import Value

CLOSE = 2.0
"""Root-mean-square error allowed, in machine epsilons of the coarsest dtype involved."""


@dataclass(frozen=True)
class Step:
    """after = scale * before + sum(weight * part), or after = norm(before) where there are no parts."""

    before: int
    after: int
    parts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    error: float = 0.0
    """Root mean square of the elementwise relative error."""

    @property
    def is_norm(self) -> bool:
        return not self.parts

    @property
    def plain(self) -> bool:
        """Whether the parts are added as they are."""
        return self.scale == 1.0 and all(w == 1.0 for w in self.weights)


@dataclass(frozen=True)
class Level:
    """How complicated an explanation may be."""

    parts: int
    scaled: bool


LEVELS = (Level(1, False), Level(1, True), Level(2, False), Level(2, True))


def path_of_sums(
    values: Mapping[int, Value], start: int, goal: int, norms: Mapping[int, int]
) -> list[Step] | None:
    """Steps from value `start` to value `goal`, or None where no sum of what was seen explains it.

    Args:
        values: what was seen inside the block, by number; all of the stream's size.
        norms: output -> input of the norms that ran inside.
    """
    for level in LEVELS:
        found = _search(values, start, goal, norms, level)
        if found is not None:
            return found
    return None


def _search(
    values: Mapping[int, Value], start: int, goal: int, norms: Mapping[int, int], level: Level
) -> list[Step] | None:
    arrived: dict[int, Step] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for step in _steps_from(values, here, goal, norms, level):
            if step.after in arrived or step.after == start:
                continue
            arrived[step.after] = step
            if step.after == goal:
                return _walk_back(arrived, start, goal)
            queue.append(step.after)
    return None


def _walk_back(arrived: Mapping[int, Step], start: int, goal: int) -> list[Step]:
    steps = [arrived[goal]]
    while steps[-1].before != start:
        steps.append(arrived[steps[-1].before])
    return steps[::-1]


def _steps_from(
    values: Mapping[int, Value], here: int, goal: int, norms: Mapping[int, int], level: Level
) -> Iterator[Step]:
    born = values[here].first
    later = [v for v in values if values[v].first > born and v != here]
    for after in sorted(later, key=lambda v: values[v].first):
        if norms.get(after) == here:
            yield Step(here, after)
            continue
        limit = values[after].first
        between = [v for v in later if v != after and values[v].first <= limit]
        step = best_sum(values, here, after, between, level)
        if step is not None:
            yield step


def best_sum(
    values: Mapping[int, Value], before: int, after: int, between: list[int], level: Level
) -> Step | None:
    """The step whose parts explain `after` best, if the error is rounding alone."""
    most = min(level.parts, len(between))
    found: Step | None = None
    for size in range(1, most + 1):
        for parts in combinations(between, size):
            step = fit(values, before, after, parts, scaled=level.scaled)
            if step is not None and (found is None or step.error < found.error):
                found = step
        if found is not None:
            return found
    return None


def fit(
    values: Mapping[int, Value], before: int, after: int, parts: tuple[int, ...], *, scaled: bool
) -> Step | None:
    """The sum as a `Step` if it holds to rounding and explains far more than `before` alone."""
    base, target = values[before].sample, values[after].sample
    terms = [values[v].sample for v in parts]
    size = base.abs() + sum((t.abs() for t in terms), start=torch.zeros_like(base))
    size = size + target.abs() + 1e-30
    epsilon = max(torch.finfo(values[v].dtype).eps for v in (before, after, *parts))
    step = _fitted(before, after, parts, base, target, terms, size, scaled)
    nothing = _rms((target - base) / size)
    if step.error > CLOSE * epsilon or (not scaled and 3 * step.error > nothing):
        return None
    return step


def _fitted(
    before: int,
    after: int,
    parts: tuple[int, ...],
    base: Tensor,
    target: Tensor,
    terms: list[Tensor],
    size: Tensor,
    scaled: bool,
) -> Step:
    plain = _rms((target - base - sum(terms, start=torch.zeros_like(base))) / size)
    if not scaled:
        return Step(before, after, parts, (1.0,) * len(parts), error=plain)
    columns = torch.stack([base, *terms], dim=1) / size[:, None]
    solution = torch.linalg.lstsq(columns, (target / size)[:, None]).solution
    error = _rms(columns @ solution[:, 0] - target / size)
    scale, *weights = (float(f"{w:.6g}") for w in solution[:, 0].tolist())
    if any(abs(w) < 1e-4 for w in (scale, *weights)):
        return Step(before, after, parts, tuple(weights), scale, error=float("inf"))
    return Step(before, after, parts, tuple(weights), scale, error)


def _rms(x: Tensor) -> float:
    return float(x.pow(2).mean().sqrt())
