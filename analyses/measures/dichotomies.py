"""Two-way divisions of conditions: which there are, how parallel they are coded, and CCGP's splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Signs = NDArray[np.int8]
"""``[sets, conditions]``: +1 and -1 for the two sides, 0 for conditions that are left out."""
Rule = Literal["paired", "all"]
BRUTE = 4
"""Conditions on a side up to which every pairing is tried (24)."""


@dataclass(frozen=True)
class Dichotomy:
    """As many conditions on one side as on the other."""

    name: str
    positive: tuple[int, ...]
    negative: tuple[int, ...]
    paired: bool
    """Whether ``positive[i]`` and ``negative[i]`` differ in the named variable alone."""

    def others(self, draws: int, seed: int = 0) -> list[Dichotomy]:
        """Other divisions of the same conditions into sides of the same size, at random."""
        generator = np.random.default_rng(seed)
        size = 2 * len(self.positive)
        found: list[Dichotomy] = []
        while size > 2 and len(found) < draws:
            one = self._moved(generator.permutation(size).tolist())
            if set(one.positive) not in (set(self.positive), set(self.negative)):
                found.append(one)
        return found

    def _moved(self, order: Sequence[int]) -> Dichotomy:
        there = sorted((*self.positive, *self.negative))
        to = dict(zip(there, (there[i] for i in order), strict=True))
        sides = ([to[i] for i in side] for side in (self.positive, self.negative))
        positive, negative = map(tuple, sides)
        return Dichotomy(self.name, positive, negative, self.paired)


def named_dichotomies(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> list[Dichotomy]:
    """Each pair of values of each variable, and the exclusive or of two variables of two values.

    A pair of values is compared over the contexts (values of all other variables) in which both
    occur, and left out if there are fewer than two.

    Args:
        names: The variables.
        values: Their values, one tuple for each condition.
    """
    found = []
    for variable, name in enumerate(names):
        levels = list(dict.fromkeys(one[variable] for one in values))
        for one, other in combinations(levels, 2):
            pairs = _pairs(values, variable, one, other)
            if len(pairs) > 1:
                positive, negative = map(tuple, zip(*pairs, strict=True))
                title = f"{name}: {one} / {other}"
                found.append(Dichotomy(title, positive, negative, paired=True))
    return found + _exclusive(names, values)


def balanced(conditions: int, *, most: int = 500, seed: int = 0) -> Signs:
    """All divisions into halves (odd numbers: one condition more on a side), without mirror images.

    Above `most`, so many different ones at random.

    Raises:
        ValueError: fewer than two conditions.
    """
    if conditions < 2:
        raise ValueError(f"a dichotomy needs two conditions, there are {conditions}")
    half = conditions // 2
    even = conditions % 2 == 0
    total = comb(conditions - 1, half - 1) if even else comb(conditions, half)
    if total <= most:
        rest = range(1, conditions) if even else range(conditions)
        kept = combinations(rest, half - 1 if even else half)
        sides: Iterable[tuple[int, ...]] = ((0, *side) if even else side for side in kept)
    else:
        sides = _random_sides(conditions, half, most, seed)
    signs = [np.isin(np.arange(conditions), side) for side in sides]
    return np.where(np.stack(signs), 1, -1).astype(np.int8)


def parallelism(kernel: Tensor, positive: Sequence[int], negative: Sequence[int]) -> float:
    """Parallelism score (Bernardi et al. 2020): mean cosine between the vectors from one side to the
    other, for the pairing of the sides that makes it largest; -1 to 1.

    Up to 4 conditions a side every pairing is tried. Above, the sum of the unit vectors is made longer
    step by step, each a linear assignment, from several starts; it can end below the maximum.

    Args:
        kernel: ``[conditions, conditions]`` inner products of the condition means; the mean need not
            be taken away. A vector whose squared length is not positive (a cross-validated estimate
            can be negative) has cosine 0 with all others.
        positive: Conditions of one side.
        negative: Conditions of the other, as many.

    Returns:
        The score; NaN with one condition on a side, or where fewer than two vectors have a length.
    """
    n = len(positive)
    if n < 2:
        return float("nan")
    cosines = _cosines(kernel.double().cpu().numpy(), np.array(positive), np.array(negative))
    pairings = (
        [np.array(one) for one in permutations(range(n))] if n <= BRUTE else _climbed(cosines)
    )
    best = max(pairings, key=lambda pairing: _score(cosines, pairing))
    known = cosines[np.arange(n), best, np.arange(n), best] > 0
    return _score(cosines, best) if known.sum() > 1 else float("nan")


def ccgp_sets(one: Dichotomy, rule: Rule, conditions: int, *, most: int, seed: int = 0) -> Signs:
    """Conditions to train on, for each split of cross-condition generalisation; the others are tested.

    Args:
        rule: ``"paired"``: the contexts are divided into halves, and a decoder is trained on those of
            one half, both sides of each; every division, both directions. ``"all"``: one condition of
            each side is held out, every choice; the training conditions need not match in context,
            so the decoder also meets differences that are not the dichotomy's.
        most: Above it, so many splits at random.

    Returns:
        ``[sets, conditions]``; no sets where ``"paired"`` is asked of unpaired sides.
    """
    pairs = len(one.positive)
    if rule == "paired":
        if not one.paired or pairs < 2:
            return np.zeros((0, conditions), dtype=np.int8)
        halves = balanced(pairs, most=max(1, most // 2), seed=seed) > 0
        kept = [(half, half) for split in halves for half in (split, ~split)]
    else:
        out = ~np.eye(pairs, dtype=bool)
        kept = list(product(out, out))
        if len(kept) > most:
            chosen = np.random.default_rng(seed).choice(len(kept), most, replace=False)
            kept = [kept[i] for i in np.sort(chosen)]
    signs = np.zeros((len(kept), conditions), dtype=np.int8)
    for row, (positive, negative) in zip(signs, kept, strict=True):
        row[np.array(one.positive)[positive]] = 1
        row[np.array(one.negative)[negative]] = -1
    return signs


def _pairs(values: Sequence[tuple[Any, ...]], variable: int, one: Any, other: Any) -> list[Any]:
    def context(value: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*value[:variable], *value[variable + 1 :])

    of_other = {context(v): i for i, v in enumerate(values) if v[variable] == other}
    return [
        (i, of_other[context(v)])
        for i, v in enumerate(values)
        if v[variable] == one and context(v) in of_other
    ]


def _exclusive(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> list[Dichotomy]:
    """Where two variables have two values each: equal against unequal, as far as all four occur."""
    levels = [list(dict.fromkeys(column)) for column in zip(*values, strict=True)]
    found = []
    for i, j in combinations(range(len(names)), 2):
        if len(levels[i]) != 2 or len(levels[j]) != 2:
            continue
        rest: dict[tuple[Any, ...], list[int]] = {}
        for number, value in enumerate(values):
            other = tuple(v for k, v in enumerate(value) if k not in (i, j))
            rest.setdefault(other, []).append(number)
        whole = [number for four in rest.values() if len(four) == 4 for number in four]
        equal = [levels[i].index(values[k][i]) == levels[j].index(values[k][j]) for k in whole]
        positive = tuple(k for k, same in zip(whole, equal, strict=True) if same)
        negative = tuple(k for k, same in zip(whole, equal, strict=True) if not same)
        if positive:
            found.append(Dichotomy(f"{names[i]} xor {names[j]}", positive, negative, paired=False))
    return found


def _random_sides(conditions: int, half: int, most: int, seed: int) -> list[tuple[int, ...]]:
    generator = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        side = generator.permutation(conditions)[:half]
        if conditions % 2 == 0 and 0 not in side:
            side = np.setdiff1d(np.arange(conditions), side)
        found[tuple(sorted(side.tolist()))] = None
    return list(found)


def _cosines(
    kernel: NDArray[np.float64], positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> NDArray[np.float64]:
    """``[n, n, n, n]``: cosine of (positive i - negative j) with (positive k - negative l)."""
    pp = kernel[np.ix_(positive, positive)][:, None, :, None]
    nn = kernel[np.ix_(negative, negative)][None, :, None, :]
    pn = kernel[np.ix_(positive, negative)]
    inner = pp + nn - pn[:, None, None, :] - pn.T[None, :, :, None]
    n = len(positive)
    squares = inner.reshape(n * n, n * n).diagonal().reshape(n, n)
    positive_length = squares > 1e-12 * np.abs(kernel).max()
    lengths = np.sqrt(np.where(positive_length, squares, np.inf))
    return np.clip(inner / lengths[:, :, None, None] / lengths, -1, 1)


def _score(cosines: NDArray[np.float64], pairing: NDArray[np.int64]) -> float:
    n = len(pairing)
    own = cosines[np.arange(n), pairing][:, np.arange(n), pairing]
    return float((own.sum() - own.trace()) / (n * (n - 1)))  # a vector with itself is left out


def _climbed(cosines: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Pairings that no assignment along their own mean direction improves."""
    n = len(cosines)
    starts = [cosines.mean((2, 3)), *(cosines[:, :, i, j] for i in range(1) for j in range(n))]
    return [_climb(cosines, start) for start in starts]


def _climb(cosines: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    n = len(cosines)
    pairing: NDArray[np.int64] = linear_sum_assignment(along, maximize=True)[1]
    for _ in range(50):
        along = cosines[:, :, np.arange(n), pairing].sum(2)
        better = linear_sum_assignment(along, maximize=True)[1]
        if _score(cosines, better) <= _score(cosines, pairing) + 1e-12:
            break
        pairing = better
    return pairing
