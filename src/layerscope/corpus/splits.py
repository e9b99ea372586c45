"""Folds whose groups stay whole, with every class in every fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def group_folds(
    labels: Sequence[Any] | NDArray[Any] | None,
    groups: Sequence[Any] | NDArray[Any],
    *,
    folds: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The fold of each row; all rows of a group are in one fold.

    Args:
        labels: ``[rows]``. Floats are numbers, and groups are dealt to folds at random; anything
            else is a class, and folds get like shares of every class. None: groups only.
        groups: ``[rows]`` what must not straddle a split.
        folds: How many, at least 2.
        seed: The same seed gives the same folds.

    Returns:
        ``[rows]`` fold numbers from 0.

    Raises:
        ValueError: fewer groups than folds, missing labels, a single class, or a class that has
            fewer rows or groups than there are folds (see `rare_classes`).
    """
    codes = _codes(groups)
    _check_counts(folds, codes)
    if labels is None:
        return _deal(codes, folds, seed)
    values = np.asarray(labels)
    if len(values) != len(codes):
        raise ValueError(
            f"{len(values):,} labels, but groups of {len(codes):,} rows; give one of each for a row"
        )
    _check_given(values)
    if values.dtype.kind == "f":
        return _deal(codes, folds, seed)
    _check_classes(values, codes, folds)
    return _stratify(_codes(values), codes, folds, seed)


def rare_classes(
    labels: Sequence[Any] | NDArray[Any], groups: Sequence[Any] | NDArray[Any], *, folds: int
) -> dict[Any, int]:
    """Classes that cannot be in every fold, with the number of groups each is found in."""
    values, codes = np.asarray(labels), _codes(groups)
    kinds, class_of = np.unique(values, return_inverse=True)
    pairs = np.unique(np.stack([class_of.ravel(), codes]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(kinds))
    found = zip(kinds.tolist(), counts.tolist(), strict=True)
    return {kind: count for kind, count in found if count < folds}


def _codes(values: Any) -> NDArray[np.int64]:
    """Small integers, equal where the values are, in order of first appearance."""
    import pandas as pd

    return np.asarray(pd.factorize(np.asarray(values), use_na_sentinel=False)[0], dtype=np.int64)


def _check_counts(folds: int, codes: NDArray[np.int64]) -> None:
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    count = len(np.unique(codes))
    if count < folds:
        raise ValueError(
            f"{folds} folds need at least {folds} groups, because a group stays whole; "
            f"there are {count}: use fewer folds, or data with more groups"
        )


def _check_given(values: NDArray[Any]) -> None:
    import pandas as pd

    absent = int(pd.isna(values).sum())
    if absent:
        raise ValueError(f"{absent:,} of {len(values):,} labels are missing; leave those rows out")


def _check_classes(values: NDArray[Any], codes: NDArray[np.int64], folds: int) -> None:
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) < 2:
        raise ValueError(
            f"every row has the label {kinds.tolist()[0]!r}; a probe needs at least two classes"
        )
    for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
        if count < folds:
            raise ValueError(_too_rare(kind, f"{count} rows", folds))
    for kind, count in rare_classes(values, codes, folds=folds).items():
        raise ValueError(_too_rare(kind, f"rows in only {count} groups", folds))


def _too_rare(kind: Any, has: str, folds: int) -> str:
    return (
        f"class {kind!r} has {has}, fewer than {folds} folds; leave that class out, "
        "merge it with another, use fewer folds, or give more data"
    )


def _deal(codes: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import GroupKFold

    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    return _fold_of(splitter.split(codes, groups=codes), len(codes))


def _stratify(
    classes: NDArray[np.int64], codes: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # Groups of one row are plain stratification, which does not loop over the groups.
    if len(np.unique(codes)) == len(codes):
        single = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return _fold_of(single.split(codes, classes), len(codes))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return _fold_of(splitter.split(codes, classes, groups=codes), len(codes))


def _fold_of(splits: Any, rows: int) -> NDArray[np.int64]:
    fold_of = np.full(rows, -1)
    for fold, (_, held) in enumerate(splits):
        fold_of[held] = fold
    return fold_of
