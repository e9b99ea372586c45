"""What a label column says: classes or numbers, and which column is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerscope.corpus.names import nearest

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus
    from layerscope.store import Store

Task = Literal["class", "number"]

MOST_CLASSES = 10
"""Whole numbers with more different values than this are read as numbers, not as classes."""
_WORDS = ("word", "lemma")
_NONE = (
    "these rows have no labels; extract from data that has them, as .conllu or columns of a table"
)


def label_of(source: Corpus | Store, label: str | None) -> str:
    """The label asked for, or the one that is meant where none was.

    Raises:
        LookupError: unknown, or none given and several to choose from.
    """
    there = source.labels
    if label is not None:
        if label not in there:
            if not there:
                raise LookupError(f"no label {label!r} here, {_NONE}")
            raise LookupError(f"no label {label!r} here; {nearest(label, there)}")
        return label
    candidates = [name for name in there if name not in _WORDS]
    if not candidates:
        raise LookupError(f"no label to read, {_NONE}")
    if len(candidates) == 1:
        return candidates[0]
    if "upos" in candidates:
        return "upos"
    raise LookupError(f"which label? Pass label=; there are: {', '.join(map(repr, candidates))}")


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
    return read_values(values, task, name, [])


def read_values(
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
        raise ValueError(
            f"label {name!r} holds {values.iloc[0]!r}, which is no number; read it with task='class'"
        )
    if task == "number" or (task is None and numeric and not _few(values, name, notes)):
        numbers = values.to_numpy(dtype=np.float64)
        _check_numbers(numbers, name)
        return "number", numbers, ()
    codes, classes = pd.factorize(values, sort=True)
    if len(classes) < 2:
        raise ValueError(
            f"every row has {name} {classes[0]!r}: a probe needs at least two classes; take more of "
            "the data, or another label"
        )
    return "class", np.asarray(codes, dtype=np.int64), tuple(classes.tolist())


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
        raise ValueError(
            f"every row has {name} {numbers[0]:g}: there is nothing to predict; take more of the "
            "data, or another label"
        )
