"""How well batches are mixed: over how many texts their rows are effectively spread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np


def effective_groups(batches: Iterable[np.ndarray[Any, Any]]) -> float:
    """1 / P(two different rows of a batch have the same group), P being the mean over `batches`.

    n rows spread evenly over g groups give ``g (n - 1) / (n - g)``, about g where g is far below n.
    Infinite where no two rows share a group.

    Args:
        batches: The group of each row of a batch, as whole numbers [size].

    Raises:
        ValueError: there is no batch, or one with fewer than two rows.
    """
    shares = [_together(groups) for groups in batches]
    if not shares:
        raise ValueError("no batch to measure")
    mean = float(np.mean(shares))
    return 1 / mean if mean else math.inf


def _together(groups: np.ndarray[Any, Any]) -> float:
    """Share of pairs of different rows that have the same group."""
    size = len(groups)
    if size < 2:
        raise ValueError(f"a batch of {size} rows has no pair of rows to compare")
    counts = np.unique(groups, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum() / (size * (size - 1)))
