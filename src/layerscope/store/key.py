"""The key of a store: one hash over everything its numbers depend on, and what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
"""Number of the format on disk; it is part of every key."""

_ABSENT = object()
_SHOWN = 60
_LISTED = 8


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for equal values, on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def key_of(parts: Mapping[str, Any]) -> str:
    """32 hex digits over `parts` and the format number.

    Raises:
        TypeError: a part is not made of JSON values.
    """
    return hashlib.sha256(canonical({"format": FORMAT, "parts": parts})).hexdigest()[:32]


def default_folder(key: str) -> Path:
    """Where a store with this key lives unless `to=` says otherwise.

    The user's cache folder; the environment variable LAYERSCOPE_CACHE overrides it.
    """
    import os

    import platformdirs

    root = os.environ.get("LAYERSCOPE_CACHE") or platformdirs.user_cache_dir("layerscope")
    return Path(root) / "stores" / key


def differences(here: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What differs between the parts of two stores, one short line each, at most nine lines.

    >>> differences({"dtype": "float32", "rows": "tokens"}, {"dtype": "bfloat16", "rows": "tokens"})
    ['dtype: float32 here, bfloat16 asked']
    """
    lines = list(_differing("", here, asked))
    more = len(lines) - _LISTED
    return [*lines[:_LISTED], f"and {more} more"] if more > 0 else lines


def _differing(path: str, here: Any, asked: Any) -> Iterator[str]:
    if isinstance(here, Mapping) and isinstance(asked, Mapping):
        for name in dict.fromkeys([*here, *asked]):
            inner = f"{path}.{name}" if path else str(name)
            yield from _differing(inner, here.get(name, _ABSENT), asked.get(name, _ABSENT))
    elif here is _ABSENT or asked is _ABSENT or canonical(here) != canonical(asked):
        yield f"{path}: {_short(here)} here, {_short(asked)} asked"


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
