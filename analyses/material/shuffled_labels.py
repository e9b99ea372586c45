"""Labels without their rows: what a score is when nothing is there to be found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def shuffled_labels(codes: Integers, groups: Integers, *, draws: int, seed: int = 0) -> Integers:
    """Labels dealt anew, with those of one group still in a row: ``[draws, rows]``.

    The groups' runs of labels are joined in a random order, turned like a ring by a random number of
    rows, and laid over the rows in their own order. So every class keeps its size, and labels that
    are alike within a group (all words of a text about one topic, or one label for a whole text)
    stay together, which dealing row by row would break up: it makes the null too narrow. Where each
    row is its own group the two are the same.

    Args:
        codes: ``[rows]`` class numbers.
        groups: ``[rows]`` group numbers from 0.
        draws: How many.
        seed: The same seed gives the same draws.
    """
    generator = np.random.default_rng(seed)
    by_group = np.argsort(groups, kind="stable")
    runs = np.split(codes[by_group], np.cumsum(np.bincount(groups))[:-1])
    found = np.empty((draws, len(codes)), dtype=np.int64)
    for draw in found:
        order = generator.permutation(len(runs))
        joined = np.concatenate([runs[number] for number in order])
        draw[by_group] = np.roll(joined, generator.integers(len(codes)))
    return found
