"""What a probe's score is held against: the commonest class, and a task that only memory solves.

The control task is Hewitt and Liang's (2019): every word type gets one random label, drawn from the
distribution of the true labels and fixed over the corpus. A probe that does well on it is reading
off which word it sees, and could have learnt any labelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def control_labels(types: Codes, labels: NDArray[Any], *, seed: int = 0) -> NDArray[Any]:
    """One random label per type.

    Args:
        types: ``[rows]`` number of the word type of each row, from 0.
        labels: ``[rows]`` true labels, classes or numbers; drawn from as they occur.
        seed: The same seed gives the same task.

    Returns:
        ``[rows]`` labels, equal wherever the type is.
    """
    draw = np.random.default_rng(seed).integers(len(labels), size=int(types.max()) + 1)
    return labels[draw][types]


def seen_in_training(types: Codes, bounds: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the type of each row also occurs in another fold; rows of a fold are adjacent."""
    folds = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    pairs = np.unique(np.stack([types, folds]), axis=1)
    return np.bincount(pairs[0])[types] > 1


def majority_hits(codes: Codes, bounds: Sequence[int], classes: int) -> NDArray[np.bool_]:
    """Whether the commonest class of the other folds is right, for each row."""
    parts = [codes[a:b] for a, b in pairwise(bounds)]
    counts = np.stack([np.bincount(part, minlength=classes) for part in parts])
    commonest = (counts.sum(0) - counts).argmax(1)
    return np.concatenate([part == best for part, best in zip(parts, commonest, strict=True)])


def training_means(values: NDArray[np.float64], bounds: Sequence[int]) -> NDArray[np.float64]:
    """For each row, the mean over the other folds."""
    sums = np.add.reduceat(values, bounds[:-1])
    sizes = np.diff(bounds)
    means = (values.sum() - sums) / (len(values) - sizes)
    return np.repeat(means, sizes)
