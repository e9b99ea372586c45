"""Two halves of the groups: slices are found on one and measured on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.probes.reading.rows import Plan

LEAST = 30
"""Errors below which nothing is said of a class or of a half."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rate:
    """How often a slice errs beyond the rest of the same rows, with a 95 % interval over groups."""

    lift: float
    low: float
    high: float
    error: float
    rest: float
    rows: int
    errors: int


def halves(plan: Plan, seed: int) -> Flags:
    """``[rows]`` whether the row's group is in the half on which slices are found."""
    count = int(plan.groups.max()) + 1
    first = np.zeros(count, dtype=bool)
    first[np.random.default_rng(seed).permutation(count)[: (count + 1) // 2]] = True
    return first[plan.groups]


def require_errors(site: str, wrong: Flags, first: Flags) -> None:
    """Refuse a site with too few errors in either half.

    Raises:
        ValueError: fewer than `LEAST`.
    """
    for name, part in (("the half that finds slices", first), ("the half that tests them", ~first)):
        errors = int(wrong[part].sum())
        if errors < LEAST:
            raise ValueError(
                f"{site}: {errors} errors in {name}, and {LEAST} are needed to say where a probe "
                "fails; give more data, or a harder label"
            )


def rate(wrong: Flags, inside: Flags, groups: NDArray[np.int64], seed: int) -> Rate:
    """Error rate inside a slice minus outside; all arrays ``[rows]`` of one half.

    The interval is of the difference, linearised: each group adds its deviations from both rates.
    """
    inner, outer = inside.sum(), (~inside).sum()
    if not inner or not outer:
        whole = float(wrong.mean())
        return Rate(np.nan, np.nan, np.nan, whole, np.nan, int(inner), int(wrong[inside].sum()))
    error, rest = float(wrong[inside].mean()), float(wrong[~inside].mean())
    share = np.where(inside, (wrong - error) / inner, -(wrong - rest) / outer) * len(wrong)
    owners = np.unique(groups, return_inverse=True)[1]
    count = int(owners.max()) + 1
    sums = np.bincount(owners, share, count).astype(np.float64)[:, None]
    rows = np.bincount(owners, minlength=count).astype(np.float64)
    low, high = mean_intervals(sums, rows, seed=seed)
    lift = error - rest
    return Rate(
        lift,
        lift + float(low[0]),
        lift + float(high[0]),
        error,
        rest,
        int(inner),
        int(wrong[inside].sum()),
    )
