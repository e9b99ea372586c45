"""Several labels at once: those that live on the same rows share them, their folds and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.kinds.kind import Asked, Further, Kind
from layerscope.probes.reading.labels import label_of
from layerscope.probes.reading.rows import Plan, plan

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store


def plans(store: Store, labels: Sequence[str | None], asked: Asked) -> list[Plan]:
    """The plan of each label, in the order asked; a later one takes the folds of an earlier one
    that has the same rows, unless a class of its would be missing from a fold.

    Raises:
        ValueError: a label that is asked for twice, or see `rows.plan`.
    """
    names = [label_of(store, label) for label in labels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"label {twice[0]!r} is asked for twice")
    made: list[Plan] = []
    for name in names:
        one = plan(
            store,
            name,
            task=asked.task,
            pieces=asked.pieces,
            folds=asked.folds,
            max_rows=asked.max_rows,
            seed=asked.seed,
        )
        shared = (dealt_as(one, other) for other in made)
        made.append(next((found for found in shared if found is not None), one))
    return made


def dealt_as(one: Plan, other: Plan) -> Plan | None:
    """The plan in the order and folds of another; None where their rows or classes forbid it."""
    if len(one.index) != len(other.index) or one.folds != other.folds:
        return None
    order = np.argsort(one.index)
    if not np.array_equal(one.index[order], np.sort(other.index)):
        return None
    take = order[np.searchsorted(one.index[order], other.index)]
    values = one.values[take]
    if one.classes and not _in_every_fold(values, other.bounds, len(one.classes)):
        return None
    return replace(
        one,
        index=other.index,
        bounds=other.bounds,
        groups=other.groups,
        types=other.types,
        values=values,
    )


def further_of(store: Store, kind: Kind, chosen: Plan) -> Further | None:
    """The other label that the kind asks for, on the rows of the plan.

    Raises:
        LookupError: the store has no such label.
        ValueError: fewer than two classes of it on these rows.
    """
    from layerscope.probes.kinds.kind import LabelKind

    name = kind.further_label() if isinstance(kind, LabelKind) else None
    if name is None:
        return None
    return _codes(store.rows[label_of(store, name)].iloc[chosen.index], name)


def _codes(values: pd.Series[Any], name: str) -> Further:
    import pandas as pd

    codes, classes = pd.factorize(values, sort=True)
    if len(classes) < 2:
        raise ValueError(f"{name} has {len(classes)} classes on these rows; it takes at least two")
    return Further(np.asarray(codes, dtype=np.int64), tuple(np.asarray(classes).tolist()))


def same_rows(chosen: Sequence[Plan]) -> list[list[int]]:
    """Numbers of the plans, those with the same rows in the same folds together."""
    groups: list[list[int]] = []
    for number, one in enumerate(chosen):
        for group in groups:
            first = chosen[group[0]]
            if first.bounds == one.bounds and np.array_equal(first.index, one.index):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _in_every_fold(codes: NDArray[np.int64], bounds: Sequence[int], classes: int) -> bool:
    parts = np.split(codes, bounds[1:-1])
    return all(len(np.unique(part)) == classes for part in parts)
