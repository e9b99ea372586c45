"""The texts of a store as the rows of a measurement: what each is labelled, and where its rows lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from layerscope.corpus.names import nearest
from layerscope.probes.kinds.kind import Asked
from layerscope.probes.reading.labels import label_of
from layerscope.probes.reading.rows import Plan, codes_of, plan

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Texts with a label, and the rows of each in the order of their positions."""

    label: str
    frame: pd.DataFrame
    """One line per text: the label, ``group``, and the columns that were asked for."""
    rows: Numbers
    """Numbers of rows in the store, those of one text adjacent and by position."""
    starts: Numbers
    """``[texts + 1]`` where the rows of each text begin in `rows`, and the end."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def first(self) -> Numbers:
        """``[texts]`` row number of the first row of each."""
        return self.rows[self.starts[:-1]]

    @property
    def last(self) -> Numbers:
        return self.rows[self.starts[1:] - 1]

    @property
    def lengths(self) -> Numbers:
        return np.diff(self.starts)


@dataclass(frozen=True)
class TextTable:
    """What `rows.plan` reads of a store: rows with labels. Here a row is a text, or a pair of them."""

    rows: pd.DataFrame
    labels: tuple[str, ...]


def texts_of(store: Store, label: str | None, also: Sequence[str] = ()) -> Texts:
    """The texts that have the label.

    Args:
        store: Rows are tokens, words or texts.
        label: A column with one value per text; None takes the only one.
        also: Further columns of texts to keep, which must be there.

    Raises:
        LookupError: no such column, with the nearest names.
        ValueError: rows that belong to no text, no text with the label, or a label that differs
            within texts.
    """
    frame = store.rows
    name = label_of(store, label)
    if "text" not in frame:
        raise ValueError("these rows belong to no texts; extract from texts, not from samples")
    for column in also:
        if column not in frame:
            raise LookupError(f"no column {column!r} here; {nearest(column, list(frame.columns))}")
    codes = codes_of(frame["text"])
    position = frame["position"].to_numpy() if "position" in frame else np.arange(len(frame))
    order = np.lexsort((position, codes))
    counts = np.bincount(codes)
    kept = [*dict.fromkeys([name, *also, *(["group"] if "group" in frame else [])])]
    whole = _constant(frame[kept], codes, name)
    there = whole[name].notna().to_numpy()
    if not there.any():
        raise ValueError(
            f"label {name!r} is missing on all {len(there):,} texts; store.finding() says which "
            "labels have values"
        )
    notes: tuple[str, ...] = ()
    if not there.all():
        missing = int((~there).sum())
        notes = (f"{missing:,} of {len(there):,} texts have no {name}: left out",)
    return Texts(
        label=name,
        frame=whole[there].reset_index(drop=True),
        rows=order[np.repeat(there, counts)],
        starts=np.concatenate([[0], np.cumsum(counts[there])]).astype(np.int64),
        notes=notes,
    )


def _constant(frame: pd.DataFrame, codes: Numbers, label: str) -> pd.DataFrame:
    """One line per text; refuses a label that differs within a text."""
    by_text = frame.groupby(codes, sort=True, observed=True)
    several = by_text[label].nunique() > 1
    if several.any():
        raise ValueError(
            f"label {label!r} has several values in {int(several.sum()):,} of {len(several):,} "
            "texts: it belongs to words, and this kind of probe reads whole texts"
        )
    return by_text.first()


def plan_of(frame: pd.DataFrame, label: str, asked: Asked) -> Plan:
    """`rows.plan` for lines that are texts or pairs; they stay whole and have no word types."""
    return plan(
        cast("Store", TextTable(frame, (label,))),
        label,
        task=asked.task,
        folds=asked.folds,
        max_rows=asked.max_rows,
        seed=asked.seed,
    )


def two_classes(chosen: Plan, kind: str) -> tuple[Any, Any]:
    """The two classes of the plan.

    Raises:
        ValueError: more or fewer, or numbers.
    """
    if len(chosen.classes) != 2:
        found = f"{len(chosen.classes)} classes" if chosen.classes else "numbers"
        raise ValueError(f"kind={kind!r} tells two classes apart, and {chosen.label} has {found}")
    return chosen.classes[0], chosen.classes[1]
