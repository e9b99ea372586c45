"""A tidy table as text cells for a page, and as CSV for a spreadsheet."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ROWS = 200
"""Rows a page shows; the rest is in the CSV."""
CSV_BYTES = 400_000
"""Larger tables are not carried along: a report is mailed, a saved finding holds everything."""
LIST_CHARS = 1000
"""Longer lists, in a cell, are no longer read."""
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
# Tokens are often nothing but a line break or a control character, which a cell would swallow.
_VISIBLE = {i: 0x2400 + i for i in range(32)} | str.maketrans({"\n": "⏎", "\t": "⇥"})


@dataclass(frozen=True)
class Column:
    name: str
    numeric: bool


@dataclass(frozen=True)
class TableView:
    """What the page needs of one table."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    """The cells as text, column by column alike."""
    total: int
    """Rows of the whole table; more than `rows` where it was capped."""
    csv: str
    """The whole table as a `data:` link; empty where it is larger than `CSV_BYTES`."""
    layers: tuple[tuple[int, ...], ...] = ()
    """For each row the layers it is about; empty where no row is about one."""


def view(table: pd.DataFrame, layers: Sequence[tuple[int, ...]] = ()) -> TableView:
    """The table's index, unless it only counts rows, and its columns, ready to print.

    A column of long lists is left out: no cell can show it, and the saved finding holds it.

    Args:
        table: Of any length; `ROWS` rows are shown.
        layers: For each row the layers that it is about.
    """
    frame = _readable(_with_named_index(table))
    shown = frame.iloc[:ROWS]
    columns = tuple(
        Column(str(name), _is_numeric(frame.iloc[:, i])) for i, name in enumerate(frame)
    )
    cells = [_texts(shown.iloc[:, i]) for i in range(shown.shape[1])]
    rows = tuple(zip(*cells, strict=True)) if cells else ()
    return TableView(columns, rows, len(frame), _csv_link(frame), tuple(layers)[:ROWS])


def digits(largest: float) -> int:
    """Decimals that give the largest value of a column three significant digits, 0 to 6.

    >>> digits(0.773), digits(12.5), digits(4321.0)
    (3, 1, 0)
    """
    if largest <= 0 or not math.isfinite(largest):
        return 3
    return min(6, max(0, 2 - math.floor(math.log10(largest))))


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals; one that they would round to zero keeps two digits.

    >>> number(0.77312, 3), number(0.00001234, 3), number(12345.6, 0)
    ('0.773', '1.2e-05', '12,346')
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:,.{decimals}f}"
    if value != 0 and float(text.replace(",", "")) == 0:
        text = f"{value:.2g}"
    return text.replace("-", MINUS, 1) if value < 0 else text


def _texts(column: pd.Series[Any]) -> list[str]:
    missing = column.isna().tolist()
    write = _writer(column)
    return [
        MISSING if gone else write(value)
        for value, gone in zip(column.tolist(), missing, strict=True)
    ]


def _writer(column: pd.Series[Any]) -> Callable[[Any], str]:
    from pandas.api.types import is_bool_dtype, is_float_dtype, is_integer_dtype

    if is_bool_dtype(column.dtype):
        return lambda value: "yes" if value else "no"
    if is_integer_dtype(column.dtype):
        # Four digits read well, and may be a year or an index; from five on, groups help.
        return lambda value: number(value, 0) if abs(value) >= 10_000 else _whole(value)
    if is_float_dtype(column.dtype):
        return _float_writer(column.dropna().astype(float).tolist())
    return plain


def plain(value: Any) -> str:
    """A text or list on one line: what a list holds by commas, texts in it in quotes.

    >>> plain([" the", "\\n"]), plain([2.16123, 3])
    ('“ the”, “⏎”', '2.16, 3')
    """
    if hasattr(value, "tolist"):  # as Parquet gives lists back
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_part, value)) or MISSING
    return str(value).translate(_VISIBLE)


def _part(value: Any) -> str:
    if isinstance(value, str):
        return f"“{plain(value)}”"
    return number(value, digits(abs(value))) if isinstance(value, float) else str(value)


def _float_writer(values: list[float]) -> Callable[[float], str]:
    """One number of decimals down the column, unless that would blank out its small values."""
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if all(size == int(size) for size in sizes):
        return lambda value: number(value, 0)
    decimals = digits(max(sizes))
    mixed_units = max(sizes) >= 10 and min(sizes) < 10 ** (1 - decimals)
    if mixed_units:
        return lambda value: number(value, digits(abs(value)))
    return lambda value: number(value, decimals)


def _whole(value: int) -> str:
    return f"{value}".replace("-", MINUS)


def _is_numeric(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype)


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    def whole(column: pd.Series[Any]) -> bool:
        parts = [x for x in column.iloc[:ROWS] if not isinstance(x, str)]
        return column.dtype == object and any(len(str(x)) > LIST_CHARS for x in parts)

    return frame.iloc[:, [i for i in range(frame.shape[1]) if not whole(frame.iloc[:, i])]]


def _with_named_index(table: pd.DataFrame) -> pd.DataFrame:
    from pandas.api.types import is_integer_dtype

    index = table.index
    counts_rows = list(index.names) == [None] and is_integer_dtype(index.dtype)
    return table if counts_rows else table.reset_index()


def _csv_link(frame: pd.DataFrame) -> str:
    content = frame.to_csv(index=False).encode("utf-8", "backslashreplace")
    if len(content) > CSV_BYTES:
        return ""
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode()}"
