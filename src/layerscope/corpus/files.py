"""Finding and opening the files of a corpus: folders, patterns, gzip, UTF-8 by line."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator, Sequence
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
            marked = number == 1 and error.object.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
            theirs = "utf-16" if marked else "windows-1252"
            raise ValueError(
                f"{path}, line {number}: byte 0x{bad:02x} at column {error.start + 1} is not UTF-8; "
                f"convert the file, such as: iconv -f {theirs} -t utf-8 {path.name} > "
                f"utf8-{path.name}"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file after line {number}: {error}") from None


def files_at(path: Path, kinds: Sequence[str]) -> tuple[list[Path], Path | None]:
    """The files that a path, folder or pattern means, in order of their names.

    Args:
        path: A file, a folder (read with its sub-folders, hidden ones left out) or a pattern.
        kinds: Known endings, such as ``".csv"``; each also with ``.gz``.

    Returns:
        The files, and the folder to name them from where there may be several.

    Raises:
        FileNotFoundError: nothing is there, or nothing of a known kind.
        ValueError: files of several kinds.
    """
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if _readable(file, path, kinds)]
        return _one_kind(found, path, kinds), path
    if not path.exists() and glob.has_magic(str(path)):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = _one_kind([file for file in matches if file.is_file()], path, kinds)
        return files, Path(os.path.commonpath([file.parent for file in files]))
    if not path.exists():
        raise _missing(path)
    return [path], None


def kind_of(file: Path, kinds: Sequence[str]) -> str:
    """The ending that says how to read the file, without ``.gz``.

    Raises:
        ValueError: it is not among `kinds`.
    """
    kind = Path(file.name.removesuffix(".gz")).suffix.lower()
    if kind not in kinds:
        shown = repr(kind) if kind else "a name without ending"
        raise ValueError(f"{str(file)!r}: no reader for {shown}; {_known(kinds)}")
    return kind


def _readable(file: Path, folder: Path, kinds: Sequence[str]) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.is_file() and file.name.removesuffix(".gz").endswith(tuple(kinds))


def _one_kind(files: list[Path], path: Path, kinds: Sequence[str]) -> list[Path]:
    counts = Counter(kind_of(file, kinds) for file in files)
    if not counts:
        raise FileNotFoundError(f"nothing to read at {str(path)!r}; {_known(kinds)}")
    if len(counts) > 1:
        shown = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        pattern = str(path / f"*{counts.most_common()[0][0]}")
        raise ValueError(
            f"{str(path)!r} holds files of several kinds ({shown}); "
            f"name one kind, such as {pattern!r}"
        )
    return files


def _known(kinds: Sequence[str]) -> str:
    return f"there are {', '.join(kinds)}, each also .gz"


def _missing(path: Path) -> FileNotFoundError:
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
