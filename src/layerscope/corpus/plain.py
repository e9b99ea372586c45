"""Plain text files: one text per line, per paragraph, or per file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from layerscope.corpus.files import numbered_lines
from layerscope.corpus.text import Text

UNITS = ("line", "paragraph", "document")


def check_unit(unit: str | None) -> str:
    """The unit asked for; a line where none is.

    Raises:
        ValueError: it is none of `UNITS`.
    """
    if unit not in (None, *UNITS):
        raise ValueError(f"text for a .txt file is one of {', '.join(UNITS)}, not {unit!r}")
    return unit or "line"


def read_plain(path: Path, *, unit: str = "line", prefix: str = "") -> Iterator[Text]:
    """Texts of a .txt or .txt.gz file; ids count from 0, blank lines not counted.

    Args:
        path: The file; a line or a paragraph is held at a time, a document whole.
        unit: ``"line"``, ``"paragraph"`` (lines up to a blank one, line breaks kept) or
            ``"document"`` (the file).
        prefix: Put before ids.
    """
    lines = (line for _, line in numbered_lines(path))
    if unit == "document":
        contents = iter(["".join(lines).strip("\r\n")])
    elif unit == "paragraph":
        blocks = groupby(lines, key=lambda line: bool(line.strip()))
        contents = ("".join(block).rstrip("\r\n") for visible, block in blocks if visible)
    else:
        contents = (line.rstrip("\r\n") for line in lines if line.strip())
    for index, content in enumerate(contents):
        yield Text(content, f"{prefix}{index}", f"{prefix}{index}")
