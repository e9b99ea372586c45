"""The class of the word after each row's word, and of the word itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from layerscope.store import Store

Of = Literal["next", "current"]


def classes_of(
    store: Store, label: str, of: Of, exclude: Sequence[str], notes: list[str]
) -> pd.Series[Any]:
    """Classes of the store's rows, missing where a row has none or its class is excluded.

    Args:
        of: ``current``: of the row's own word; ``next``: of the word after it in the same text.

    Raises:
        ValueError: ``next`` of a label that belongs to whole texts, or of rows that are not words.
    """
    frame = store.rows
    values = frame[label] if of == "current" else next_of(frame, label)
    values = values.astype(object).where(values.notna(), None)
    out = values.isin(list(exclude))
    if out.any():
        named = ", ".join(f"{name} ({(values == name).sum():,})" for name in exclude)
        notes.append(f"rows whose {of} word is {named} are left out; exclude=() keeps them")
    return values.where(~out, None)


def next_of(frame: pd.DataFrame, label: str) -> pd.Series[Any]:
    """The label of the next word of the same text; missing for the last word of each text."""
    if not of_words(frame, label):
        raise ValueError(
            f"{label!r} does not belong to words, so no next word has it; use of='current'"
        )
    known = f"next_{label}"
    if known in frame:  # knows words that the model was not shown, and those it has no row for
        return frame[known]
    words = frame[["text", "word_index", label]].dropna(subset="word_index")
    words = words[words["word_index"] >= 0].drop_duplicates(["text", "word_index"])
    after = words.assign(word_index=words["word_index"] - 1).set_index(["text", "word_index"])
    found = frame[["text", "word_index"]].join(after[label], on=["text", "word_index"])[label]
    return found.where(frame["word_index"] >= 0)


def of_words(frame: pd.DataFrame, label: str) -> bool:
    """Whether the label is of words: rows know their word, and a text can have several values."""
    if "word_index" not in frame or "text" not in frame:
        return False
    return bool(frame.groupby("text", observed=True)[label].nunique().max() > 1)
