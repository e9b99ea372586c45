"""Which rows of a store a probe sees, and what each of them should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerscope.corpus.splits import group_folds, rare_classes
from layerscope.probes.reading.labels import Task, label_of, read_values

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

Pieces = Literal["last", "first", "all"]

RARE_SHARE = 0.05
"""Classes too rare for the folds are left out if together they are at most this share of rows."""


@dataclass(frozen=True)
class Plan:
    """The rows of one measurement, sorted by fold."""

    label: str
    task: Task
    index: NDArray[np.int64]
    """``[rows]`` where each row is in the store."""
    bounds: tuple[int, ...]
    """First row of each fold, and the end."""
    groups: NDArray[np.int64]
    """``[rows]`` group numbers from 0."""
    values: NDArray[Any]
    """``[rows]`` class numbers, or float64 for numbers."""
    classes: tuple[Any, ...]
    """What the class numbers stand for; empty for numbers."""
    types: NDArray[np.int64] | None
    """``[rows]`` number of the word type of each row, or None where rows are not words."""
    notes: tuple[str, ...]

    @property
    def folds(self) -> int:
        return len(self.bounds) - 1


def plan(
    store: Store,
    label: str | None = None,
    *,
    task: Task | None = None,
    pieces: Pieces = "last",
    folds: int = 5,
    max_rows: int = 50_000,
    seed: int = 0,
) -> Plan:
    """Choose the rows that have the label, and deal them to folds by group.

    Args:
        store: Anything with `rows` and `labels`.
        label: A label column; None takes the only one, or ``upos``.
        task: ``"class"`` or ``"number"``; None decides by the values (see `labels.MOST_CLASSES`).
        pieces: Which piece stands for a word that the tokenizer cut, where rows are tokens and
            the label belongs to words.
        folds: At least 3: one is tested, one chooses the penalty, the others train.
        max_rows: Above it, whole groups are left out at random.
        seed: Of the folds and of what is left out.

    Raises:
        LookupError: no such label.
        ValueError: no rows with the label, one class only, too few groups, or classes too rare
            for the folds that make up more than `RARE_SHARE` of the rows.
    """
    if folds < 3:
        raise ValueError(
            f"folds must be at least 3 (one is tested, one chooses the penalty), got {folds}"
        )
    frame = store.rows
    name = label_of(store, label)
    notes: list[str] = []
    kept = labelled(frame, name, notes)
    kept = whole_words(frame, kept, name, pieces, notes)
    _check_groups(frame, kept, folds)
    kept = _capped(frame, kept, folds, max_rows, seed, notes)
    chosen, values, classes = read_values(frame[name].iloc[kept], task, name, notes)
    if chosen == "class":
        common = _common(values, classes, frame["group"].iloc[kept], folds, name, notes)
        kept, values = kept[common], values[common]
        classes, values = _renumbered(classes, values)
    groups = codes_of(frame["group"].iloc[kept])
    fold = group_folds(values, groups, folds=folds, seed=seed)
    order = np.argsort(fold, kind="stable")
    types = _types(frame, kept)
    return Plan(
        label=name,
        task=chosen,
        index=kept[order],
        bounds=tuple(np.searchsorted(fold[order], range(folds + 1)).tolist()),
        groups=groups[order],
        values=values[order],
        classes=classes,
        types=None if types is None else types[order],
        notes=tuple(notes),
    )


def labelled(frame: pd.DataFrame, name: str, notes: list[str]) -> NDArray[np.int64]:
    """Numbers of the rows that have the label; `notes` hears of the others."""
    present = frame[name].notna().to_numpy()
    kept = np.flatnonzero(present)
    if not len(kept):
        raise ValueError(
            f"label {name!r} is missing on all {len(frame):,} rows; store.finding() says which "
            "labels have values"
        )
    if len(kept) < len(frame):
        notes.append(f"{len(frame) - len(kept):,} of {len(frame):,} rows have no {name}: left out")
    return kept


def whole_words(
    frame: pd.DataFrame, kept: NDArray[np.int64], name: str, pieces: Pieces, notes: list[str]
) -> NDArray[np.int64]:
    """One row per word where rows are the pieces of words and the label is the word's."""
    if pieces not in ("last", "first", "all"):
        raise ValueError(f"pieces must be 'last', 'first' or 'all', got {pieces!r}")
    if pieces == "all" or "word_index" not in frame:
        return kept
    part = frame[["text", "word_index", name]].iloc[kept]
    if part.groupby("text")[name].nunique().max() <= 1:
        return kept  # the label belongs to the text, so every token has it
    single = ~part.duplicated(["text", "word_index"], keep=pieces).to_numpy(dtype=bool)
    if single.all():
        return kept
    notes.append(
        f"a word cut into pieces is read at its {pieces} piece: {single.sum():,} words of "
        f"{len(kept):,} tokens"
    )
    whole: NDArray[np.int64] = kept[single]
    return whole


def _check_groups(frame: pd.DataFrame, kept: NDArray[np.int64], folds: int) -> None:
    if "group" not in frame or frame["group"].iloc[kept].isna().any():
        raise ValueError(
            "rows without a group cannot be split safely; give groups when reading the data "
            "(what must not be both in training and in test: document, sentence, speaker)"
        )
    count = frame["group"].iloc[kept].nunique()
    if count < folds:
        raise ValueError(
            f"{folds} folds need at least {folds} groups, because a group stays whole; "
            f"there are {count}: use fewer folds, or data with more groups"
        )


def _capped(
    frame: pd.DataFrame,
    kept: NDArray[np.int64],
    folds: int,
    max_rows: int,
    seed: int,
    notes: list[str],
) -> NDArray[np.int64]:
    """At most `max_rows`: groups at random, none of which may fill more than a share of them."""
    if len(kept) <= max_rows:
        return kept
    groups = codes_of(frame["group"].iloc[kept])
    share = max(1, max_rows // (4 * folds))
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    rank = np.argsort(order)[groups]
    # Number of each row within its group, after sorting rows by the random rank of the group.
    by_rank = np.argsort(rank, kind="stable")
    _, starts, sizes = np.unique(rank[by_rank], return_index=True, return_counts=True)
    within = np.arange(len(kept)) - np.repeat(starts, sizes)
    chosen = np.sort(by_rank[within < share][:max_rows])
    notes.append(
        f"{len(chosen):,} of {len(kept):,} rows, of {len(np.unique(groups[chosen])):,} of "
        f"{len(order):,} groups drawn at random; raise max_rows to use more"
    )
    return kept[chosen]


def _common(
    codes: NDArray[np.int64],
    classes: Sequence[Any],
    groups: pd.Series[Any],
    folds: int,
    name: str,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Rows whose class is in enough groups to be in every fold."""
    found = rare_classes(codes, groups.to_numpy(), folds=folds)
    kept = ~np.isin(codes, list(found))
    if not found:
        return kept
    rows = int((~kept).sum())
    named = ", ".join(f"{classes[code]!r} ({count})" for code, count in list(found.items())[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    what = f"{name} {named}{more}: in fewer groups than the {folds} folds"
    if len(classes) - len(found) < 2 or rows > RARE_SHARE * len(codes):
        raise ValueError(
            f"{what}, and {rows:,} of {len(codes):,} rows have these classes; use fewer folds, "
            "smaller groups, more data, or merge classes"
        )
    notes.append(f"{what}; left out with their {rows:,} rows")
    return kept


def _renumbered(
    classes: tuple[Any, ...], codes: NDArray[np.int64]
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    there, numbers = np.unique(codes, return_inverse=True)
    return tuple(classes[code] for code in there), numbers.astype(np.int64)


def _types(frame: pd.DataFrame, kept: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Word types; only where texts have several rows, so that a type is more than a text."""
    if "text" not in frame or frame["text"].is_unique:
        return None
    for column in ("word", "token"):
        if column in frame and frame[column].iloc[kept].notna().all():
            return codes_of(frame[column].iloc[kept])
    return None


def codes_of(values: pd.Series[Any]) -> NDArray[np.int64]:
    """Small integers, equal where the values are, in order of first appearance."""
    import pandas as pd

    return np.asarray(pd.factorize(values)[0], dtype=np.int64)
