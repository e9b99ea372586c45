"""Which conditions there are, which rows show them, and how rows are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks
from layerscope.analyses.material.sample import Sample, groups_of, labelled_sample
from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.corpus.names import nearest
from layerscope.corpus.splits import group_folds, rare_classes
from layerscope.probes.reading.labels import label_of, read_values

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

Wanted = Sequence[str] | Mapping[str, Sequence[Any] | None]
MOST = 64
"""Conditions; all alignments are made of matrices of this size."""


@dataclass(frozen=True)
class Conditions:
    """Combinations of label values, and the rows on which they are measured."""

    names: tuple[str, ...]
    """The label columns."""
    values: tuple[tuple[Any, ...], ...]
    """The values of each condition."""
    sample: Sample
    codes: NDArray[np.int64]
    """``[rows]`` condition of each row."""
    groups: NDArray[np.int64]
    """``[rows]``, from 0."""
    folds: NDArray[np.int64]
    """``[rows]``; no group is in two."""
    blocks: NDArray[np.int64]
    """``[rows]`` what is left out together for intervals; no group is in two."""
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def shuffles(self, draws: int, seed: int) -> list[NDArray[np.int64]]:
        """Conditions dealt anew, those of a whole group to a whole group."""
        return list(shuffled_labels(self.codes, self.groups, draws=draws, seed=seed))


def conditions_of(
    store: Store,
    wanted: Wanted | None,
    also: Sequence[str],
    *,
    group: str,
    folds: int,
    per_condition: int,
    seed: int,
) -> Conditions:
    """The conditions that the store's rows show.

    Args:
        wanted: Label columns, or columns with the values to keep; None takes ``Number`` and ``upos``
            where both are there.
        also: Columns that must not be missing either.
        group: Column that says which rows belong together.
        folds: A condition needs rows in as many groups.
        per_condition: At most so many rows of each, at random.

    Raises:
        LookupError: no such label or column.
        ValueError: fewer than 3 conditions, or more than 64; groups that some rows have and others
            have not.
    """
    kept = _columns(store, wanted)
    if group not in store.rows:
        raise LookupError(f"no column {group!r} in the rows; {nearest(group, store.rows.columns)}")
    joint, meaning = _joint(store.rows, kept, also)
    if len(meaning) > MOST:
        raise ValueError(
            f"{', '.join(kept)} make {len(meaning)} conditions, and at most {MOST} are compared; name "
            "the values to keep, such as conditions={'"
            + next(iter(kept))
            + "': [two of them], ...}, "
            "or use fewer columns"
        )
    chosen = labelled_sample(
        store,
        " x ".join(kept),
        values=joint,
        per_class=per_condition,
        max_rows=MOST * per_condition,
        least=folds,
        seed=seed,
    )
    assert chosen.codes is not None
    notes = list(chosen.notes)
    groups = chosen.groups
    if group != "group":
        groups = groups_of(store.rows, chosen.index, notes, group)
    chosen = replace(chosen, notes=tuple(notes))
    return _divided(chosen, tuple(kept), meaning, groups, group, folds, seed)


def _columns(store: Store, wanted: Wanted | None) -> dict[str, Sequence[Any] | None]:
    if wanted is None:
        if not {"Number", "upos"} <= set(store.labels):
            there = ", ".join(map(repr, store.labels)) or "none"
            raise LookupError(
                f"which conditions? Pass conditions=[label columns]; there are: {there}"
            )
        wanted = ("Number", "upos")
    if isinstance(wanted, str):
        wanted = (wanted,)
    kept = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted)
    for name, values in kept.items():
        label_of(store, name)
        known = set(store.rows[name].dropna())
        unknown = [v for v in values or () if v not in known]
        if unknown:
            raise LookupError(
                f"{name} is never {unknown[0]!r}; it is {', '.join(sorted(map(repr, known))[:12])}"
            )
    if not kept:
        raise ValueError("conditions is empty; name label columns")
    return kept


def _joint(
    frame: pd.DataFrame, kept: Mapping[str, Sequence[Any] | None], also: Sequence[str]
) -> tuple[pd.Series[Any], dict[str, tuple[Any, ...]]]:
    """The condition of each row in words (missing: none), and what the words mean."""
    import pandas as pd

    present = frame[[*kept, *also]].notna().all(axis=1)
    for name, values in kept.items():
        if values is not None:
            present &= frame[name].isin(list(values))
    if not present.any():
        raise ValueError(
            f"no row has all of {', '.join([*kept, *also])} as asked; store.finding() says which "
            "values there are"
        )
    unique = frame.loc[present, list(kept)].drop_duplicates()
    meaning = {
        ", ".join(f"{n}={v}" for n, v in zip(kept, one, strict=True)): one
        for one in unique.itertuples(index=False, name=None)
    }
    words = pd.Series(None, index=frame.index, dtype=object)
    part = frame.loc[present, list(kept)]
    words[present] = [
        ", ".join(f"{n}={v}" for n, v in zip(kept, one, strict=True))
        for one in part.itertuples(index=False, name=None)
    ]
    return words, meaning


def _divided(
    chosen: Sample,
    names: tuple[str, ...],
    meaning: Mapping[str, tuple[Any, ...]],
    groups: NDArray[np.int64],
    group: str,
    folds: int,
    seed: int,
) -> Conditions:
    codes, notes = chosen.codes, list(chosen.notes)
    assert codes is not None
    rare = rare_classes(codes, groups, folds=folds)
    if rare:
        told = ", ".join(f"{chosen.classes[c]} ({n})" for c, n in rare.items())
        notes.append(f"conditions in fewer than {folds} groups ({group}), left out: {told}")
    kept = ~np.isin(codes, list(rare))
    classes = [chosen.classes[c] for c in np.unique(codes[kept])]
    if len(classes) < 3:
        raise ValueError(
            f"{len(classes)} conditions of {' x '.join(names)} have rows in {folds} groups, and 3 are "
            "the least that have a geometry; add a label column, fewer folds, or more data"
        )
    codes = np.unique(codes[kept], return_inverse=True)[1].astype(np.int64)
    groups = np.unique(groups[kept], return_inverse=True)[1].astype(np.int64)
    notes += _uneven(codes, classes)
    return Conditions(
        names=names,
        values=tuple(meaning[c] for c in classes),
        sample=Sample(chosen.index[kept], groups, label=chosen.label),
        codes=codes,
        groups=groups,
        folds=group_folds(codes, groups, folds=folds, seed=seed),
        blocks=Blocks.of(groups, seed=seed).number,
        notes=tuple(notes),
    )


def _uneven(codes: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    counts = np.bincount(codes)
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] < 2 * counts[least]:
        return []
    return [
        (
            f"uneven conditions: {classes[least]} has {counts[least]:,} rows, {classes[most]} "
            f"{counts[most]:,}; every condition counts alike, so the rarest decide how noisy this is"
        )
    ]


def targets_of(store: Store, wanted: Any, index: NDArray[np.int64]) -> tuple[str, Tensor]:
    """A name, and ``[rows, columns]``: classes one-hot, numbers as they are.

    Args:
        wanted: Label columns, or a tensor ``[rows of the store, columns]``.
    """
    if isinstance(wanted, Tensor):
        return "the given tensor", rows_of(wanted, store, index, "targets")
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    parts = []
    for name in names:
        column = store.rows[label_of(store, name)].iloc[index]
        task, values, classes = read_values(column, None, name, [])
        one = torch.from_numpy(values)
        hot = torch.nn.functional.one_hot(one, len(classes)) if task == "class" else one[:, None]
        parts.append(hot.double())
    return " and ".join(names), torch.cat(parts, dim=1)


def rows_of(given: Tensor, store: Store, index: NDArray[np.int64], what: str) -> Tensor:
    """The chosen rows of a tensor that has one row for each row of the store."""
    if given.ndim < 2 or len(given) != len(store):
        raise ValueError(
            f"{what} has shape {tuple(given.shape)}; give [{len(store)}, columns], one row for each "
            "row of the store"
        )
    part = given[torch.from_numpy(index)].flatten(1).double()
    if not bool(part.isfinite().all()):
        row = int(index[int((~part.isfinite().all(1)).nonzero()[0])])
        raise ValueError(f"{what} is NaN or infinite at row {row}")
    return part
