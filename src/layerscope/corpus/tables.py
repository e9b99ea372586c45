"""Records out of table files, in pieces: memory does not grow with the file."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from layerscope.corpus.files import numbered_lines, open_bytes
from layerscope.corpus.records import Record

PIECE = 1000
"""Rows of a Parquet file that are held at once."""

ADVICE = "a cell that holds a quote or a separator is put in quotes, and quotes in it are doubled"

_KINDS = {
    "true or false": re.compile(r"(?i:true|false)"),
    "whole number": re.compile(r"[+-]?(0|[1-9]\d*)"),
    "number": re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|(?i:nan|[+-]?inf)"),
}


def jsonl_records(path: Path) -> Iterator[Record]:
    """One JSON object (or one string) per line; blank lines are passed over."""
    for number, line in numbered_lines(path):
        if line.strip():
            try:
                yield as_record(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None


def json_records(path: Path) -> Iterator[Record]:
    """A JSON list of objects or strings; it is read whole."""
    try:
        content = json.loads("".join(line for _, line in numbered_lines(path)))
    except json.JSONDecodeError as error:
        advice = "; one object per line is .jsonl" if error.msg == "Extra data" else ""
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}{advice}") from None
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a list of texts or objects")
    yield from map(as_record, content)


def as_record(item: Any) -> Record:
    """The item itself where it is a record; a bare string becomes ``{"text": string}``."""
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, dict):
        return item
    raise ValueError(f"expected a text or an object with named fields, not {repr(item)[:60]}")


def csv_records(path: Path, delimiter: str) -> Iterator[Record]:
    """Rows under the names in the first line.

    An empty cell is None. A column whose every cell is a number (or true or false) is read as
    such; that takes one more reading of the file, and numbers written like 007 stay texts.
    """
    stat = path.stat()
    kinds = _kinds(path, delimiter, (stat.st_size, stat.st_mtime_ns))
    for row in _rows(path, delimiter):
        yield {name: _cell(value, kinds[name]) for name, value in row.items()}


def parquet_records(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file; one that is gzipped as a whole is unpacked to disk first."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    with ExitStack() as opened:
        file = opened.enter_context(open_bytes(path))
        if path.suffix == ".gz":
            unpacked = opened.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(file, unpacked)
            file = unpacked
        try:
            # Without pre_buffer, pages are read one by one and not a whole row group at once.
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 16)
        except ArrowInvalid as error:
            raise ValueError(f"{path}: not a Parquet file, or a damaged one: {error}") from None
        for batch in table.iter_batches(batch_size=PIECE):
            yield from batch.to_pylist()


def _rows(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    lines = (line for _, line in numbered_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(path, _next(path, reader))
    while (row := _next(path, reader)) is not None:
        if len(row) not in (0, len(header)):
            raise ValueError(
                f"{path}, line {reader.line_num}: {len(row)} cells under {len(header)} names "
                f"({', '.join(header)}); {ADVICE}"
            )
        if row:
            yield dict(zip(header, row, strict=True))


def _next(path: Path, reader: Any) -> list[str] | None:
    # The module's own limit of 131,072 characters per cell is shorter than many texts.
    limit = csv.field_size_limit(2**31 - 1)
    try:
        return next(reader, None)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; {ADVICE}") from None
    finally:
        csv.field_size_limit(limit)


def _header(path: Path, row: list[str] | None) -> list[str]:
    names = [name or f"column {number}" for number, name in enumerate(row or (), 1)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; the first line names them")
    return names


@lru_cache(maxsize=256)
def _kinds(path: Path, delimiter: str, stamp: tuple[int, int]) -> dict[str, list[str]]:
    """For each column, the kinds that all of its cells can be read as, narrowest first.

    `stamp` changes with the file, so that what is remembered does too.
    """
    kinds: dict[str, list[str]] = {}
    filled = set()
    for row in _rows(path, delimiter):
        for name, cell in row.items():
            fitting = kinds.setdefault(name, list(_KINDS))
            if cell and fitting:
                filled.add(name)
                kinds[name] = [kind for kind in fitting if _KINDS[kind].fullmatch(cell)]
    return {name: fitting if name in filled else [] for name, fitting in kinds.items()}


def _cell(cell: str, kinds: list[str]) -> str | int | float | bool | None:
    if not cell:
        return None
    if not kinds:
        return cell
    if kinds[0] == "true or false":
        return cell.lower() == "true"
    if kinds[0] == "whole number":
        return int(cell)
    return None if cell.lower() == "nan" else float(cell)
