"""Saying what there is, to someone who named something else."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, there: Iterable[str], *, most: int = 30) -> str:
    """A sentence with the names closest to `name`, and all (or the first `most`) there are."""
    names = list(there)
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    more = ", ..." if len(names) > most else ""
    return f"{hint}there are: {', '.join(map(repr, names[:most])) or 'none'}{more}"
