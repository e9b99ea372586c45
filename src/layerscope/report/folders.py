"""Saved findings, gathered from folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from layerscope.finding import Finding
from layerscope.saved import HEADER


def collect(paths: str | Path | Iterable[str | Path]) -> list[Finding]:
    """Load every finding in the folders, in the order given, each folder in order of path.

    Args:
        paths: Folders; each is a finding that `save` wrote, or holds such folders at any depth.
            A finding that several paths reach is loaded once, at its first place.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no finding.
        ValueError: a finding is damaged, foreign or of another format.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    folders = {found.resolve(): found for path in given for found in _finding_folders(Path(path))}
    return [Finding.load(folder) for folder in folders.values()]


def _finding_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give folders with saved findings")
    found = sorted(header.parent for header in folder.rglob(HEADER))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no finding in it (no {HEADER} at any depth); "
            "save one there first: finding.save(folder)"
        )
    return found
