"""Which layers a table speaks of: row by row, and in one line for each layer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any

from layerscope.report.tables import digits, number, plain

if TYPE_CHECKING:
    import pandas as pd

EMBED = -1
"""The layer before block 0."""
NUMBERED = ("layer", "other_layer", "later", "source", "target")
NAMED = ("site", "other_site", "source", "target")
"""Columns with block numbers; with sites, which are read where no number is."""
FIRST = ("measure", "part", "head", "blocks", "position")
"""Columns that say best which row this is; any others of words come after."""
AGAINST = {"null_mean": "null", "control": "control", "twin": "twin", "baseline": "baseline"}
"""Columns that a value is held against -> what the line calls them."""
AFTER = ("nats", "bits", "logit")
"""Units that stand after their number, as `0.2 nats`; others before it, as `accuracy 0.9`."""
ROWS = 4
"""Values that a line lists one by one; more are told by their range."""
_SITE = re.compile(r"(?:encoder\.)?blocks\.(\d+)\.|(embed)$")
_ENCODER, _SMALL = "encoder.", ("hidden.", "softmax")
"""How sites begin of an encoder that has a decoder after it, and of small networks without blocks."""


def layers_of(table: pd.DataFrame) -> list[tuple[int, ...]]:
    """For each row the blocks that it is about, -1 for `embed`; both where it is about a pair.

    Where a table has encoder and decoder, block 3 is the decoder's, and rows about the encoder are about
    none; so are those about the hidden layers of a small network, which are no blocks.
    """
    columns = [_numbers(table[name]) for name in NUMBERED if name in table]
    columns += [
        _sites(table[name])
        for name in NAMED
        if name in table and not (name in ("site", "other_site") and "layer" in table)
    ]
    if not columns:
        return [()] * len(table)
    rows = [
        tuple(layer for layer in row if layer is not None) for row in zip(*columns, strict=True)
    ]
    return [() if other else row for row, other in zip(rows, _no_blocks(table), strict=True)]


def of_encoder(table: pd.DataFrame) -> bool:
    """Whether it is about nothing but an encoder that has a decoder after it."""
    return "site" in table and all(str(site).startswith(_ENCODER) for site in table["site"])


def named(layer: int) -> str:
    """What a reader calls it.

    >>> named(-1), named(3)
    ('embed', 'block 3')
    """
    return "embed" if layer == EMBED else f"block {layer}"


def lines(table: pd.DataFrame) -> dict[int, str]:
    """Layer -> the table's numbers there, in one line; only of layers that have a ``value``.

    Rows about one layer alone are told; those about pairs of layers where there are no others.
    """
    if "value" not in table or not len(table):
        return {}
    layers = layers_of(table)
    some_alone = any(len(one) == 1 for one in layers)
    told = [
        bool(there) and (len(one) == 1 if some_alone else len(one) > 0)
        for there, one in zip(table["value"].notna(), layers, strict=True)
    ]
    if not any(told):
        return {}
    rows, own = table[told], [one for one, is_told in zip(layers, told, strict=True) if is_told]
    return {layer: _line(rows[[layer in one for one in own]]) for layer in union(own)}


def _line(rows: pd.DataFrame) -> str:
    rows = _main(rows)
    return f"{_windows(rows)}{_values(rows)}"


def _windows(rows: pd.DataFrame) -> str:
    """Says so where the layer of each row is the place of a window of several blocks."""
    if {"layer", "blocks"} <= set(rows) and all((n or 0) > 1 for n in _numbers(rows["blocks"])):
        return "windows that begin here: "
    if {"first", "end"} <= set(rows) and (rows["end"] - rows["first"] > 1).any():
        return "windows around it: "
    return ""


def _values(rows: pd.DataFrame) -> str:
    if len(rows) <= ROWS:
        keys = _telling_apart(rows)
        return "; ".join(_one(row, keys) for row in rows.to_dict("records"))
    if "measure" in rows and rows["measure"].nunique() > 1:
        return _by(rows, "measure")
    few = [key for key in _words(rows) if rows[key].nunique() <= ROWS]
    return _by(rows, few[0]) if few else _range(rows)


def _by(rows: pd.DataFrame, key: str) -> str:
    """The first `ROWS` kinds of rows: the number of one that has one row, else its range."""
    kinds = list(islice(rows.groupby(key, sort=False, observed=True), ROWS))
    return "; ".join(
        _one(own.iloc[0].to_dict(), [key]) if len(own) == 1 else f"{plain(name)}: {_range(own)}"
        for name, own in kinds
    )


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    """What a table is about: its first part, with its like if that is one row; the smallest scope."""
    if "part" in rows:
        size = rows["part"].map(rows["part"].value_counts())
        first = rows["part"] == rows["part"].iloc[0]
        rows = rows[size == 1 if size.iloc[0] == 1 else first]
    if "scope" in rows and rows["scope"].notna().any():
        rows = rows[rows["scope"] == rows["scope"].value_counts().idxmin()]
    return rows


def _telling_apart(rows: pd.DataFrame) -> list[str]:
    """As few columns as tell these rows apart, in the order of importance."""
    keys: list[str] = []
    for key in [name for name in (*FIRST, *_words(rows)) if name in rows]:
        if len(rows[keys].drop_duplicates() if keys else rows[:1]) == len(rows):
            break
        if len(rows[[*keys, key]].drop_duplicates()) > len(
            rows[keys].drop_duplicates() if keys else rows[:1]
        ):
            keys.append(key)
    return keys


def _one(row: dict[Any, Any], keys: list[str]) -> str:
    ends = [float(row[name]) for name in ("ci_low", "ci_high") if _there(row.get(name))]
    decimals = digits(max(abs(number) for number in (float(row["value"]), *ends)))
    names = ", ".join(_name(key, row[key]) for key in keys if _there(row[key]))
    value = number(float(row["value"]), decimals)
    if len(ends) == 2:
        value += f" ({number(ends[0], decimals)} to {number(ends[1], decimals)})"
    text = _with_unit(value, row)
    against = [
        f"{word} {number(float(row[column]), decimals)}"
        for column, word in AGAINST.items()
        if _there(row.get(column)) and not isinstance(row[column], (str, bool))
    ]
    return ", ".join([f"{names}: {text}" if names else text, *against])


def _name(key: str, cell: Any) -> str:
    return plain(cell) if isinstance(cell, str) else f"{key} {cell:g}"


def _range(rows: pd.DataFrame) -> str:
    ends = float(rows["value"].min()), float(rows["value"].max())
    decimals = digits(max(map(abs, ends)))
    low, high = (number(end, decimals) for end in ends)
    told = low if low == high else f"{low} to {high}"
    if "unit" in rows and rows["unit"].nunique(dropna=False) == 1:
        told = _with_unit(told, rows.iloc[0].to_dict())
    return told if low == high else f"{told} in {len(rows):,} rows"


def _with_unit(text: str, row: dict[Any, Any]) -> str:
    unit = row.get("unit")
    if not isinstance(unit, str) or not unit[:1].isalpha():
        return text
    return f"{text} {unit}" if unit.startswith(AFTER) else f"{unit} {text}"


def _words(rows: pd.DataFrame) -> list[str]:
    """Columns of words that differ among the rows."""
    untold = {*NUMBERED, *NAMED, *AGAINST, "unit", "estimator", "scope"}
    return [
        str(name)
        for name in rows
        if name not in untold
        and rows[name].dtype.kind not in "biufc"
        and all(isinstance(cell, str) for cell in rows[name].dropna())
        and rows[name].nunique() > 1
    ]


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and isnan(value))


def _numbers(column: pd.Series[Any]) -> list[int | None]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if not is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype):
        return [None] * len(column)
    whole = column.notna() & (column % 1 == 0)
    return [int(n) if ok else None for n, ok in zip(column, whole, strict=True)]


def _no_blocks(table: pd.DataFrame) -> list[bool]:
    """For each row whether its number is not that of the block which a reader takes it for."""
    if "site" not in table:
        return [False] * len(table)
    sites = [str(site) for site in table["site"]]
    others = _SMALL if of_encoder(table) else (*_SMALL, _ENCODER)
    return [site.startswith(others) for site in sites]


def _sites(column: pd.Series[Any]) -> list[int | None]:
    return [_block(cell) if isinstance(cell, str) else None for cell in column]


def _block(site: str) -> int | None:
    found = _SITE.match(site)
    return None if found is None else int(found[1]) if found[1] else EMBED


def union(several: Iterable[Iterable[int]]) -> tuple[int, ...]:
    """All layers of all, in order."""
    return tuple(sorted({layer for one in several for layer in one}))
