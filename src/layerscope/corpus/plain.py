"""Plain text files: one text per line, per paragraph, or per file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from layerscope.corpus.files import numbered_lines
from layerscope.corpus.text import Text

UNITS = ("line", "paragraph", "document")


def read_plain(path: Path, *, unit: str | None = None, prefix: str = "") -> Iterator[Text]:
    """Texts of a .txt or .txt.gz file; ids count from 0, blank lines not counted.

    Args:
        path: The file; a line or a paragraph is held at a time, a document whole.
        unit: ``"line"`` (the default), ``"paragraph"`` (lines up to a blank one, line breaks kept) or
            ``"document"`` (the file).
        prefix: Put before ids.

    Raises:
        ValueError: an unknown unit, or a line that is not UTF-8.
    """
    if unit not in (None, *UNITS):
        raise ValueError(f"text for a .txt file is one of {', '.join(UNITS)}, not {unit!r}")
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


def wrapped_note(path: Path) -> list[str]:
    """A caveat where the first lines look like paragraphs broken into lines."""
    lines = [line.strip() for _, line in islice(numbered_lines(path), 400)]
    blocks = [len(list(block)) for visible, block in groupby(lines, key=bool) if visible]
    if len(blocks) < 3 or sum(blocks) < 2 * len(blocks):
        return []
    return [f"{path.name} has blank lines between blocks; text='paragraph' reads those as texts"]
