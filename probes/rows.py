"""Which rows of a store a probe sees, and what each of them should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerscope.corpus.names import nearest
from layerscope.corpus.splits import group_folds, rare_classes

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

Task = Literal["class", "number"]
Pieces = Literal["last", "first", "all"]

MOST_CLASSES = 10
"""Whole numbers with more different values than this are read as numbers, not as classes."""
RARE_SHARE = 0.05
"""Classes too rare for the folds are left out if together they are at most this share of rows."""
_WORDS = ("word", "lemma")


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
        task: ``"class"`` or ``"number"``; None decides by the values (see `MOST_CLASSES`).
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
    kept = _labelled(frame, name, notes)
    kept = _whole_words(frame, kept, name, pieces, notes)
    _check_groups(frame, kept, folds)
    kept = _capped(frame, kept, folds, max_rows, seed, notes)
    chosen, values, classes = _read(frame[name].iloc[kept], task, name, notes)
    if chosen == "class":
        common = _common(values, classes, frame["group"].iloc[kept], folds, name, notes)
        kept, values = kept[common], values[common]
        classes, values = _renumbered(classes, values)
    groups = _codes(frame["group"].iloc[kept])
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


def label_of(store: Store, label: str | None) -> str:
    """The label asked for, or the one that is meant where none was.

    Raises:
        LookupError: unknown, or none given and several to choose from.
    """
    there = store.labels
    if label is not None:
        if label not in there:
            raise LookupError(f"no label {label!r} in this store; {nearest(label, there)}")
        return label
    candidates = [name for name in there if name not in _WORDS]
    if not candidates:
        raise LookupError("these rows have no labels; extract from data that has them")
    if len(candidates) == 1:
        return candidates[0]
    if "upos" in candidates:
        return "upos"
    raise LookupError(f"which label? Pass label=; there are: {', '.join(map(repr, candidates))}")


def _labelled(frame: pd.DataFrame, name: str, notes: list[str]) -> NDArray[np.int64]:
    present = frame[name].notna().to_numpy()
    kept = np.flatnonzero(present)
    if not len(kept):
        raise ValueError(f"label {name!r} is missing on all {len(frame):,} rows")
    if len(kept) < len(frame):
        notes.append(f"{len(frame) - len(kept):,} of {len(frame):,} rows have no {name}: left out")
    return kept


def _whole_words(
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
    groups = _codes(frame["group"].iloc[kept])
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


def _read(
    values: pd.Series[Any], task: Task | None, name: str, notes: list[str]
) -> tuple[Task, NDArray[Any], tuple[Any, ...]]:
    """The task, the values as class numbers or floats, and the classes."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if task not in (None, "class", "number"):
        raise ValueError(f"task must be 'class' or 'number', got {task!r}")
    if task == "number" and not numeric:
        raise ValueError(f"label {name!r} holds {values.iloc[0]!r}, which is no number")
    if task == "number" or (task is None and numeric and not _few(values, name, notes)):
        numbers = values.to_numpy(dtype=np.float64)
        _check_numbers(numbers, name)
        return "number", numbers, ()
    codes, classes = pd.factorize(values, sort=True)
    if len(classes) < 2:
        raise ValueError(f"every row has {name} {classes[0]!r}: a probe needs at least two classes")
    return "class", np.asarray(codes, dtype=np.int64), tuple(classes.tolist())


def class_codes(
    y: Any, task: Task | None = None, name: str = "y"
) -> tuple[Task, NDArray[Any], tuple[Any, ...]]:
    """Labels as class numbers and their classes, or as float64 numbers and no classes.

    Raises:
        ValueError: missing labels, one class only, or numbers that are none.
    """
    import pandas as pd

    values = pd.Series(np.asarray(y) if hasattr(y, "__array__") else list(y))
    if values.isna().any():
        raise ValueError(f"{int(values.isna().sum()):,} labels are missing; leave those rows out")
    return _read(values, task, name, [])


def _few(values: pd.Series[Any], name: str, notes: list[str]) -> bool:
    """Whether numbers are so few and whole that they are taken for class numbers."""
    distinct = values.unique()
    few = len(distinct) <= MOST_CLASSES and bool((distinct == np.round(distinct)).all())
    if few:
        notes.append(
            f"{name} has {len(distinct)} whole values and is read as classes; "
            "task='number' predicts it as a number"
        )
    return few


def _check_numbers(numbers: NDArray[np.float64], name: str) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError(f"label {name!r} has infinite values; leave those rows out")
    if numbers.min() == numbers.max():
        raise ValueError(f"every row has {name} {numbers[0]:g}: there is nothing to predict")


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
            return _codes(frame[column].iloc[kept])
    return None


def _codes(values: pd.Series[Any]) -> NDArray[np.int64]:
    import pandas as pd

    return np.asarray(pd.factorize(values)[0], dtype=np.int64)
