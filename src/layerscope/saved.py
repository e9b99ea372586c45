"""A finding on disk: a folder of two files, written whole and read with suspicion. Format 1:

finding.json    format, kind (module:class), question, answer, notes, provenance
table.parquet   the table with its dtypes and index
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
HEADER, TABLE = "finding.json", "table.parquet"


def write(folder: Path, header: dict[str, Any], table: pd.DataFrame) -> None:
    """Write both files; the header goes last, so a folder that has one is complete.

    Raises:
        ValueError: a column of the table mixes types that no file format can hold, or the folder
            holds a finding of another kind, a store or a model.
    """
    refuse_store_or_model(folder)
    _refuse_another_kind(folder, header["kind"])
    text = json.dumps({"format": FORMAT} | header, indent=1, ensure_ascii=False) + "\n"
    content = _parquet_bytes(table)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TABLE, content)
    write_whole(folder / HEADER, text.encode())


def read_header(folder: Path) -> dict[str, Any]:
    """What `finding.json` says; refused unless it is whole and of this format."""
    header = folder / HEADER
    if not header.is_file():
        raise FileNotFoundError(f"{folder}: no {HEADER} here; give a folder that save() wrote")
    try:
        body = json.loads(header.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{header} is damaged ({error}); run the analysis again") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        got = body.get("format") if isinstance(body, dict) else body
        raise ValueError(
            f"{header}: format {got!r}, this layerscope reads {FORMAT}; run the analysis again"
        )
    missing = {"kind", "notes", "provenance"} - body.keys()
    if missing:
        raise ValueError(f"{header} is damaged (no {min(missing)}); run the analysis again")
    return body


def read_table(folder: Path) -> pd.DataFrame:
    """The table with the dtypes it had."""
    import pandas as pd
    import pyarrow as pa

    path = folder / TABLE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: {TABLE} is missing; copy the whole folder again")
    try:
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the analysis again") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def refuse_store_or_model(folder: Path) -> None:
    """A finding in such a folder would be read in place of what the folder is.

    Raises:
        ValueError: the folder holds a store or a model; with a name that is free for use.
    """
    for file, what in (("store.json", "a store of activations"), ("config.json", "a model")):
        if (folder / file).is_file():
            raise ValueError(
                f"{folder} holds {what}, which nothing is to be written into; give a folder of its "
                f"own, as {folder.with_name(f'{folder.name}-out')}"
            )


def _refuse_another_kind(folder: Path, kind: str) -> None:
    """What is damaged, or no finding at all, does not tell its kind, and may be replaced."""
    try:
        there = read_header(folder)["kind"]
    except (OSError, ValueError):
        return
    if there != kind:
        old, new = (str(name).rpartition(":")[2] for name in (there, kind))
        raise ValueError(
            f"{folder} holds a {old}, which a {new} does not replace; give another folder"
        )


def _parquet_bytes(table: pd.DataFrame) -> bytes:
    import pyarrow as pa

    try:
        content: bytes = table.to_parquet()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"the table cannot be saved, give each column one type: {error}"
        ) from error
    return content
