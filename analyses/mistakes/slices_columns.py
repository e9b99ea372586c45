"""What is known of each row besides its activations, as values that can be slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.corpus.names import nearest
from layerscope.probes.reading.rows import Plan

if TYPE_CHECKING:
    import pandas as pd

MOST_VALUES = 50
"""Columns with more different values are names rather than kinds."""
_OWN = (
    "text",
    "sample",
    "group",
    "token_id",
    "char_start",
    "char_end",
    "word_index",
    "token",
    "word",
    "lemma",
)


def columns_of(frame: pd.DataFrame, plan: Plan, columns: Sequence[str] | None) -> pd.DataFrame:
    """``[rows]`` of the plan, one column of short names each; missing where a row has none.

    Raises:
        LookupError: a column that the rows do not have.
    """
    import pandas as pd

    rows = frame.iloc[plan.index]
    derived = _derived(frame, rows)
    if columns is not None:
        there = [*frame.columns, *derived]
        missing = [name for name in columns if name not in there]
        if missing:
            raise LookupError(f"no column {missing[0]!r} in the rows; {nearest(missing[0], there)}")
        chosen = {
            name: _named(derived[name] if name in derived else rows[name]) for name in columns
        }
        return pd.DataFrame(chosen).reset_index(drop=True)
    found = dict(derived)
    for name in frame.columns:
        if name in _OWN or name in found or name == "position":
            continue
        values = _named(rows[name])
        if 1 < values.nunique() <= MOST_VALUES:
            found[name] = values
    return pd.DataFrame({k: v.to_numpy() for k, v in found.items()})


def _named(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    if pd.api.types.is_float_dtype(values) or pd.api.types.is_integer_dtype(values):
        distinct = values.dropna().nunique()
        if distinct > MOST_VALUES:
            return _quarters(values)
        if (values.dropna() == values.dropna().round()).all():
            return values.astype("Int64").astype("string")
    return values.astype("string")


def _derived(frame: pd.DataFrame, rows: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    found: dict[str, pd.Series[Any]] = {}
    if "position" in frame and frame["position"].nunique() > 1:
        found["position in text"] = _quarters(rows["position"])
    if "text" in frame and not frame["text"].is_unique:
        sizes = frame.groupby("text")["text"].transform("size").loc[rows.index]
        found["length of text"] = _quarters(sizes)
    name = next((c for c in ("word", "token") if c in frame and frame[c].notna().any()), None)
    if name:
        words = rows[name].astype("string")
        found["length of word"] = _quarters(words.str.len().astype("float"))
        found["word occurs"] = _often(words)
        found["capital letter"] = words.str[:1].str.isupper().map({True: "yes", False: "no"})
    return found


def _quarters(values: pd.Series[Any]) -> pd.Series[Any]:
    """Which quarter of the rows, named by the numbers that are in it."""
    import pandas as pd

    numbers = values.astype("float")
    edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    if len(edges) < 3:
        return numbers.map("{:g}".format)
    parts: pd.Series[Any] = pd.cut(numbers, edges.tolist(), include_lowest=True)
    spans = {
        part: f"{numbers[parts == part].min():g} to {numbers[parts == part].max():g}"
        for part in parts.cat.categories
        if (parts == part).any()
    }
    return parts.map(spans).astype("string")


def _often(words: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    counts = words.map(words.value_counts())
    edges = [0, 1, 4, 19, np.inf]
    return pd.cut(
        counts, edges, labels=["once", "2 to 4 times", "5 to 19 times", "20 times or more"]
    ).astype("string")
