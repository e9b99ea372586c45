"""Single numbers for how deep a profile over layers lies; always to be read beside the curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF = 0.5
"""Share of the largest KL below which a layer counts as on its way out."""
SHARED = 0.2
"""Overlap of top lists above which a layer counts as naming the final candidates."""


def depth_score(profile: Sequence[float] | NDArray[Any], *, first: int = 0) -> float:
    """Mean layer of a non-negative profile over layers: ``sum(l * e_l) / sum(e_l)``.

    A profile that is one layer alone gives that layer, a flat one the middle. NaN where all is 0
    (Csordás et al. 2025).

    Args:
        profile: One number for each layer.
        first: The layer of the first; -1 where it is `embed`.

    Raises:
        ValueError: a negative or missing number.
    """
    e = np.asarray(profile, dtype=float)
    if e.ndim != 1 or not (e >= 0).all():
        raise ValueError(f"a depth score is of one non-negative number for each layer, got {e}")
    return float(first + np.arange(len(e)) @ e / e.sum()) if e.sum() else float("nan")


def turning_layer(cosines: Sequence[float] | NDArray[Any]) -> int | None:
    """The last layer at which the curve crosses from below 0 to 0 or above; None if it never does.

    Layers before it erase more than they strengthen.
    """
    x = np.asarray(cosines, dtype=float)
    crossed = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0)) + 1
    return int(crossed[-1]) if len(crossed) else None


def falling_layer(kl: Sequence[float] | NDArray[Any], share: float = HALF) -> int | None:
    """The first layer whose KL to the final distribution is below `share` of the largest."""
    x = np.asarray(kl, dtype=float)
    below = np.flatnonzero(x < share * x.max())
    return int(below[0]) if len(below) else None


def sharing_layer(overlap: Sequence[float] | NDArray[Any], least: float = SHARED) -> int | None:
    """The first layer whose overlap with the final top list is above `least`."""
    above = np.flatnonzero(np.asarray(overlap, dtype=float) > least)
    return int(above[0]) if len(above) else None
