"""The rows of one shard as Parquet: same rows in, same bytes out; strings stored once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

CONTENT = "content"
STRUCTURE = (
    "text",
    "sample",
    "position",
    "token_id",
    "token",
    "word_index",
    "char_start",
    "char_end",
    "group",
    CONTENT,
)
"""Columns that say where a row comes from; every other column is a label."""


def encode(frame: pd.DataFrame) -> memoryview:
    """The bytes of a Parquet file.

    Raises:
        ValueError: a column mixes kinds of values that one Parquet column cannot hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {str(name): _column(str(name), frame[name]) for name in frame.columns}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return memoryview(sink.getvalue())


def _column(name: str, values: pd.Series[Any]) -> Any:
    """One Arrow array; strings become indices into a dictionary in order of first appearance."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    try:
        array = pa.Array.from_pandas(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"column {name!r} mixes kinds of values: {error}") from error
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if array.null_count == len(array):  # whatever it would be elsewhere, here it says nothing
        return pa.nulls(len(array))
    if kinds.is_dictionary(array.type):
        return _in_order_of_appearance(array)
    return pc.dictionary_encode(array.cast(pa.string())) if _is_text(array.type) else array


def _in_order_of_appearance(array: Any) -> Any:
    """The same values whatever the order of the categories, without spelling out each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.dictionary_encode(array.indices)
    values = array.dictionary.take(codes.dictionary)
    values = values.cast(pa.string()) if _is_text(values.type) else values
    return pa.DictionaryArray.from_arrays(codes.indices, values)


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def read(paths: Sequence[Path], columns: Iterable[str]) -> Any:
    """One Arrow table of `columns` over all shards; a column absent from a shard is null there.

    Raises:
        ValueError: a column holds text in one shard and numbers in another.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(columns)
    tables = []
    for path in paths:
        # Not pq.read_table: its threads can outlive the interpreter (apache/arrow#34314).
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            tables.append(file.read(columns=[name for name in wanted if name in there]))
    try:
        whole = pa.concat_tables(tables or [pa.table({})], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise ValueError(f"shards disagree about the kind of a column: {error}") from error
    return whole.select(
        [name for name in wanted if name in whole.column_names]
    ).unify_dictionaries()


def texts(paths: Sequence[Path]) -> pd.Series[Any]:
    """The content of each text, by its number."""
    import pandas as pd

    table = read(paths, ["text", CONTENT])
    if CONTENT not in table.column_names:
        return pd.Series([], dtype="str", name=CONTENT)
    frame = table.to_pandas().drop_duplicates("text").set_index("text")
    contents: pd.Series[Any] = frame[CONTENT].astype("str")
    return contents


def names(paths: Iterable[Path]) -> tuple[str, ...]:
    """Every column of any shard, in order of first appearance."""
    import pyarrow.parquet as pq

    return tuple(dict.fromkeys(name for path in paths for name in pq.read_schema(path).names))
