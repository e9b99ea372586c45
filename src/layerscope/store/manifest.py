"""store.json: what makes a folder a store. Written whole, refused with advice when it is not ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from layerscope.store.disk import TEMPORARY, publish
from layerscope.store.errors import StoreMismatch
from layerscope.store.key import FORMAT, canonical, differences, key_of
from layerscope.store.layout import DTYPES, checksum

NAME = "store.json"
SHARDS = "shards"
LOCKS = "locks"


def new(
    parts: Mapping[str, Any], sites: Mapping[str, int], dtype: torch.dtype, about: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of a store that has no shards yet."""
    from layerscope.finding import versions

    if not sites or dtype not in DTYPES:
        known = ", ".join(map(str, DTYPES))
        raise ValueError(f"a store holds at least one site, as {known}; got {sites}, {dtype}")
    return {
        "format": FORMAT,
        "key": key_of(parts),
        "sites": {name: {"width": w, "dtype": DTYPES[dtype]} for name, w in sites.items()},
        "about": dict(about),
        "versions": versions(),
        "shards": None,
        "notes": [],
        "parts": dict(parts),
    }


def load(folder: Path) -> dict[str, Any]:
    """The manifest in `folder`, checked against its own key.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another format, or altered.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no {NAME} here; give a folder that extract or `layerscope dump` wrote"
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise _altered(path) from error
    if not isinstance(content, dict):
        raise _altered(path)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format {content.get('format')!r}, this layerscope reads format {FORMAT}; "
            "read it with the version that wrote it, or delete the folder and extract again"
        )
    if content.pop("crc32", None) != checksum(canonical(content)):
        raise _altered(path)
    return content


def _altered(path: Path) -> ValueError:
    return ValueError(
        f"{path} was altered: its checksum differs. Delete it and run extract again: the shards "
        "that belong to the same key are kept"
    )


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Put the manifest in place as one step: a reader sees the old one or the new one."""
    whole = {**content, "crc32": checksum(canonical(content))}
    body = json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n"
    publish(folder / NAME, [body], len(body))


def refuse_foreign(folder: Path) -> None:
    """Raise ValueError for a folder that is neither a store nor empty: it is someone else's."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a store needs a folder")
    if not folder.is_dir() or (folder / NAME).is_file():
        return
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in (SHARDS, LOCKS) and not path.name.endswith(TEMPORARY)
    )
    if foreign:
        raise ValueError(
            f"{folder} holds files that are not a store ({', '.join(foreign[:5])}); "
            "give a new or empty folder"
        )


def mismatch(folder: Path, here: Mapping[str, Any], asked: Mapping[str, Any]) -> StoreMismatch:
    """The error for a folder that holds another store: both keys, and what differs."""
    lines = "".join(f"\n  {line}" for line in differences(here["parts"], asked["parts"]))
    return StoreMismatch(
        f"{folder} holds the store {here['key']}, not {asked['key']}. What differs:{lines}\n"
        "Give another folder, or delete this one"
    )
