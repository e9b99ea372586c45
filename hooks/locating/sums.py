"""Which observed tensors add up to which: the additions by which a block writes to its stream.

A path from a block's input to its output is searched among the tensors seen inside it. A step of
the path adds one tensor (or two, where sublayers run in parallel) to the stream, or passes it
through a norm. Simple explanations are tried first; scales, and gains per feature, come later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

import torch
from torch import Tensor

from layerscope.hooks.locating.observe import Value

CLOSE = 2.0
"""Root-mean-square error allowed, in machine epsilons of the coarsest dtype involved."""

Form = Literal["plain", "scaled", "featured"]
"""after = before + part; = a * before + b * part; the same with a, b and an offset per feature."""


@dataclass(frozen=True)
class Step:
    """after = scale * before + sum(weight * part), or after = norm(before) where there are no parts."""

    before: int
    after: int
    parts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    """One for each part; the mean over features where they have gains of their own."""
    scale: float = 1.0
    form: Form = "plain"
    error: float = 0.0
    """Root mean square of the elementwise relative error."""

    @property
    def is_norm(self) -> bool:
        return not self.parts


LEVELS: tuple[tuple[int, Form], ...] = (
    (1, "plain"),
    (1, "scaled"),
    (2, "plain"),
    (2, "scaled"),
    (1, "featured"),
    (2, "featured"),
)
"""Explanations from simple to complicated: how many parts at once, in which form."""


def path_of_sums(
    values: Mapping[int, Value], start: int, goal: int, norms: Mapping[int, int]
) -> list[Step] | None:
    """Steps from value `start` to value `goal`, or None where no sum of what was seen explains it.

    Args:
        values: what was seen inside the block, by number, in order; all of the stream's size.
        norms: output -> input of the norms that ran inside.
    """
    for level in range(1, len(LEVELS) + 1):
        found = _search(values, start, goal, norms, LEVELS[:level])
        if found is not None:
            return found
    return None


def _search(
    values: Mapping[int, Value],
    start: int,
    goal: int,
    norms: Mapping[int, int],
    levels: tuple[tuple[int, Form], ...],
) -> list[Step] | None:
    """Breadth first, so the path with the fewest steps."""
    arrived: dict[int, Step] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for step in _steps_from(values, here, norms, levels):
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
    values: Mapping[int, Value],
    here: int,
    norms: Mapping[int, int],
    levels: tuple[tuple[int, Form], ...],
) -> Iterator[Step]:
    born = values[here].first
    for after in (v for v in values if values[v].first > born and v != here):
        if norms.get(after) == here:
            yield Step(here, after)
            continue
        limit = values[after].first
        old = [v for v in values if values[v].first <= born and v != here]
        new = [v for v in values if born < values[v].first <= limit and v != after]
        found = (_best(values, here, after, (old, new), *level) for level in levels)
        step = next((step for step in found if step is not None), None)
        if step is not None:
            yield step


def _best(
    values: Mapping[int, Value],
    before: int,
    after: int,
    known: tuple[list[int], list[int]],
    parts: int,
    form: Form,
) -> Step | None:
    """The sum of so many parts that explains `after` best, if its error is rounding alone.

    One part at least is newer than `before`; a shortcut past several sublayers may be older.
    """
    old, new = known
    choices = [*combinations(new, parts), *(product(new, old) if parts == 2 else ())]
    tried = (fit(values, before, after, chosen, form) for chosen in choices)
    fitting = [step for step in tried if step is not None]
    return min(fitting, key=lambda step: step.error, default=None)


def fit(
    values: Mapping[int, Value], before: int, after: int, parts: tuple[int, ...], form: Form
) -> Step | None:
    """The sum as a `Step` if it holds to rounding and explains far more than `before` alone."""
    base, target = values[before].sample, values[after].sample
    terms = [values[v].sample for v in parts]
    size = base.abs() + target.abs() + torch.stack(terms).abs().sum(0) + 1e-30
    epsilon = max(torch.finfo(values[v].dtype).eps for v in (before, after, *parts))
    weights, error = _SOLVERS[form]([base, *terms], target, size)
    if not error <= CLOSE * epsilon or any(abs(w) < 1e-4 for w in weights):
        return None
    if form == "plain" and 3 * error > _rms((target - base) / size):
        return None
    scale, *rest = weights
    return Step(before, after, parts, tuple(rest), scale, form, error)


def _plain(columns: list[Tensor], target: Tensor, size: Tensor) -> tuple[list[float], float]:
    return [1.0] * len(columns), _rms((torch.stack(columns).sum(0) - target) / size)


def _scaled(columns: list[Tensor], target: Tensor, size: Tensor) -> tuple[list[float], float]:
    matrix = torch.stack([(c / size).flatten() for c in columns], dim=1)
    wanted = (target / size).flatten()
    solution = torch.linalg.lstsq(matrix, wanted[:, None]).solution[:, 0]
    error = _rms(matrix @ solution - wanted)
    return [float(f"{w:.6g}") for w in solution.tolist()], error


def _featured(columns: list[Tensor], target: Tensor, size: Tensor) -> tuple[list[float], float]:
    """Least squares for each feature on its own; refused where there are too few rows to tell."""
    rows, unknown = len(target), len(columns) + 1
    if rows < unknown + 4:
        return [0.0] * len(columns), float("inf")
    offset = torch.ones_like(target)
    matrix = torch.stack([x / size for x in (*columns, offset)], dim=2).transpose(0, 1)
    wanted = (target / size).T
    solution = torch.linalg.lstsq(matrix, wanted[..., None]).solution
    error = _rms((matrix @ solution)[..., 0] - wanted)
    return [float(f"{w:.6g}") for w in solution[:, :-1, 0].mean(0).tolist()], error


_SOLVERS = {"plain": _plain, "scaled": _scaled, "featured": _featured}


def _rms(x: Tensor) -> float:
    return float(x.pow(2).mean().sqrt())
