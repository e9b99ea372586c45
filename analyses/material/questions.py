"""Prompts with their answers, out of a table file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from layerscope.corpus.names import nearest
from layerscope.corpus.tables import json_records, jsonl_records, parquet_records


def _cells(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    """Rows of a table, every cell as it is written: an answer such as 4.50 or True stays a text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


_READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    ".jsonl": jsonl_records,
    ".json": json_records,
    ".csv": lambda path: _cells(path, ","),
    ".tsv": lambda path: _cells(path, "\t"),
    ".parquet": parquet_records,
}


@dataclass(frozen=True)
class Questions:
    """The rows of a file as columns, all of one length."""

    path: Path
    columns: dict[str, list[Any]]
    prompt: str
    answer: str

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def prompts(self) -> list[str]:
        return self.columns[self.prompt]

    @property
    def answers(self) -> list[Any]:
        """A text for each prompt, or a list of texts any of which is right."""
        return [
            [str(one) for one in entry] if isinstance(entry, list) else str(entry)
            for entry in self.columns[self.answer]
        ]

    def column(self, name: str) -> list[Any]:
        """One column.

        Raises:
            LookupError: there is none of that name.
        """
        if name not in self.columns:
            raise LookupError(f"{self.path} has no column {name!r}; {nearest(name, self.columns)}")
        return self.columns[name]

    def position(self, text: str) -> Any:
        """What ``--at`` says: a number for all prompts, or the column with a part of each."""
        return (
            int(text)
            if _is_number(text)
            else [int(one) if _is_number(one) else one for one in self.column(text)]
        )


def read_questions(
    path: str | Path, *, prompt: str = "prompt", answer: str = "answer", limit: int | None = None
) -> Questions:
    """Read a .jsonl, .json, .csv, .tsv or .parquet file with a column of prompts and one of answers.

    In JSON an answer may be a list: any of its texts is right.

    Raises:
        FileNotFoundError: there is no such file.
        LookupError: a column is missing; the message names those there are.
        ValueError: another kind of file, no rows, or a row without prompt or answer.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: questions are read from {', '.join(_READERS)}, with a column {prompt!r} and "
            f"a column {answer!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    rows = list(islice(reader(path), limit))
    if not rows:
        raise ValueError(
            f"{path} has no rows; each needs a {prompt!r} and an {answer!r}, such as "
            f'{{"{prompt}": "The capital of France is", "{answer}": "Paris"}}'
        )
    names = dict.fromkeys(name for row in rows for name in row)
    found = Questions(path, {n: [row.get(n) for row in rows] for n in names}, prompt, answer)
    for name in (prompt, answer):
        _require_filled(path, name, found.column(name))
    return found


def _is_number(text: Any) -> bool:
    return isinstance(text, int) or (isinstance(text, str) and text.lstrip("-").isdigit())


def _require_filled(path: Path, name: str, values: Sequence[Any]) -> None:
    empty = [i for i, value in enumerate(values) if value is None or value in ("", [])]
    if empty:
        raise ValueError(
            f"{path}: row {empty[0]} (counting from 0) has no {name!r}; fill it in, or take the row out"
        )
