"""Labels without their rows: what a score is when nothing is there to be found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


TRIES = 100
"""Draws in which a class is nearly gone are drawn again so often at most."""


def shuffled_labels(codes: Integers, groups: Integers, *, draws: int, seed: int = 0) -> Integers:
    """Labels dealt anew, those of a whole group to a whole group: ``[draws, rows]``.

    Every group is given the labels of another one, as a ring that starts anywhere: once more round
    where it has more rows, cut off where it has fewer. So labels that are alike within a group (all words of a
    text about one topic, or one label for a whole text) stay alike within a group, and none are torn
    apart by a boundary; dealing row by row would do that, and make the null too narrow. Classes
    keep their numbers of rows where groups are of one size, else about. Rings are turned because
    labels may have the same order in all groups (pairs, designs), and would stay where they are.
    Where each row is its own group this is a plain permutation; a single group is only turned.

    Args:
        codes: ``[rows]`` class numbers.
        groups: ``[rows]`` group numbers from 0.
        draws: How many.
        seed: The same seed gives the same draws.
    """
    generator = np.random.default_rng(seed)
    by_group = np.argsort(groups, kind="stable")
    owner, ordered = groups[by_group], codes[by_group]
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(codes)) - starts[owner]
    least = np.minimum(2, np.bincount(codes))

    def dealt() -> Integers:
        source = generator.permutation(len(sizes))
        turned = generator.integers(sizes[source])
        source, turned = source[owner], turned[owner]
        labels: Integers = ordered[starts[source] + (place + turned) % sizes[source]]
        return labels

    found = np.empty((draws, len(codes)), dtype=np.int64)
    for draw in found:
        for _ in range(TRIES):
            draw[by_group] = dealt()
            if (np.bincount(draw, minlength=len(least)) >= least).all():
                break
    return found
