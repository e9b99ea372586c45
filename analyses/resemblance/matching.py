"""The same rows in several stores: tokens or words at the same place of the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.analyses.material.row_rules import row_rule
from layerscope.analyses.material.sample import groups_of

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

COMMON = 0.9
"""Tokens must agree on so large a share of the rows; words that were cut off may be more."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Rows that all stores have."""

    index: tuple[NDArray[np.int64], ...]
    """For each store ``[rows]`` where each row is in it."""
    groups: NDArray[np.int64]
    """``[rows]`` group numbers from 0, of the first store."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)


def matched(stores: Sequence[Store], names: Sequence[str]) -> Matched:
    """Find the rows of the first store in all others.

    Rows are the same where the content of the text and the span of characters are; words, where
    the text and the number of the word are.

    Raises:
        ValueError: stores whose rows are of another kind, or have too little in common; groups
            that some rows have and others have not.
    """
    first = stores[0]
    frame = first.rows
    kept = np.arange(len(frame))
    index = [kept]
    notes: list[str] = []
    if len(stores) > 1:
        kinds = {name: row_rule(store) for name, store in zip(names, stores, strict=True)}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} has {kind}" for name, kind in kinds.items())
            raise ValueError(f"rows of different kinds cannot be matched: {told}; extract alike")
        keys = [_keys(store) for store in stores]
        index, notes = _joined(keys, stores, names)
        kept = index[0]
    numbers = groups_of(frame, kept, notes)
    return Matched(tuple(index), numbers, tuple(notes))


def _keys(store: Store) -> pd.DataFrame:
    """What names a row, whatever the store: one line per row."""
    import pandas as pd

    frame = store.rows
    if "sample" in frame:
        keys = pd.DataFrame({"text": frame["sample"].astype(str), "place": frame["position"]})
        keys["text"] = str(store.parts.get("corpus")) + "/" + keys["text"]
    else:
        keys = pd.DataFrame({"text": _contents(store, frame["text"])})
        if row_rule(store) == "words" and "word_index" in frame:
            keys["place"] = frame["word_index"]
        elif "char_start" in frame:
            keys["place"], keys["end"] = frame["char_start"], frame["char_end"]
        else:
            keys["place"] = frame["position"]
    # Equal texts, and tokens without characters, are told apart by their order.
    keys["again"] = keys.groupby(list(keys.columns), dropna=False, observed=True).cumcount()
    return keys


def _contents(store: Store, numbers: pd.Series[Any]) -> Any:
    """The content of each row's text; its number where the store has no texts."""
    texts = store.texts
    return numbers.map(texts.astype(str)) if len(texts) else numbers.astype(str)


def _joined(
    keys: Sequence[pd.DataFrame], stores: Sequence[Store], names: Sequence[str]
) -> tuple[list[NDArray[np.int64]], list[str]]:
    if all(len(one) == len(keys[0]) and _equal(one, keys[0]) for one in keys[1:]):
        return [np.arange(len(one)) for one in keys], []
    columns = list(keys[0].columns)
    common = keys[0].assign(row0=np.arange(len(keys[0])))
    for number, other in enumerate(keys[1:], 1):
        other = other.assign(**{f"row{number}": np.arange(len(other))})
        common = common.merge(other, how="inner", on=columns, validate="one_to_one")
    common = common.sort_values("row0")
    least = min(len(common) / max(1, len(one)) for one in keys)
    tokens = row_rule(stores[0]) == "tokens"
    if not len(common) or (tokens and least < COMMON):
        told = ", ".join(
            f"{len(one):,} rows in {name}" for name, one in zip(names, keys, strict=True)
        )
        if "token_id" in stores[0].rows or len(stores[0].texts):
            _refuse_other_texts(keys, names)
        remedy = (
            "another tokenizer cuts other tokens; compare words: rows='words' with models, or "
            "extract(..., rows='words') for stores"
            if tokens
            else "extract both from the same texts"
        )
        raise ValueError(
            f"only {len(common):,} rows have the same text and place in all ({told}): {remedy}"
        )
    index = [common[f"row{number}"].to_numpy(dtype=np.int64) for number in range(len(keys))]
    return index, [
        f"{len(common):,} rows are in all; left out: "
        + ", ".join(f"{len(k) - len(common):,} of {n}" for n, k in zip(names, keys, strict=True))
    ]


def _refuse_other_texts(keys: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    """Say that the texts differ, where that and not their tokens is why rows are not the same."""
    texts = [set(one["text"]) for one in keys]
    shared = set.intersection(*texts)
    if len(shared) < COMMON * max(map(len, texts)):
        told = ", ".join(f"{len(one):,} in {name}" for name, one in zip(names, texts, strict=True))
        raise ValueError(
            f"the texts differ: {len(shared):,} are in all ({told}); extract both from the same texts"
        )


def _equal(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return all((a[column].to_numpy() == b[column].to_numpy()).all() for column in a.columns)
