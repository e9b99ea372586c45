"""Opening the files of a corpus: gzip, UTF-8 by line, and where a missing one may be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, cast


def open_bytes(path: Path) -> BinaryIO:
    """The file's content, unpacked where the name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line with its line end); a byte order mark is dropped.

    Raises:
        ValueError: the line that is not UTF-8, or a damaged gzip file.
    """
    with open_bytes(path) as file:
        number = 0
        try:
            for number, raw in enumerate(file, 1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, line
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise ValueError(
                f"{path}, line {number}: byte 0x{bad:02x} at column {error.start + 1} is not "
                f"UTF-8; convert the file, such as: iconv -f latin1 -t utf-8 {path.name}"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file after line {number}: {error}") from None


def missing(path: Path) -> FileNotFoundError:
    """The error for a path that is not there, with the nearest names that are."""
    folder = path.parent
    if not folder.is_dir():
        return FileNotFoundError(f"no file {str(path)!r}: no folder {str(folder)!r} either")
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = get_close_matches(path.name, names, n=4, cutoff=0.5) or names[:8]
    there = ", ".join(near) or "nothing"
    return FileNotFoundError(
        f"no file {str(path)!r}; in {str(folder)!r} there is: {there}. "
        "To read texts themselves, put them in a list"
    )
