"""What the shell offers after TAB; read from small files, so that TAB answers at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from layerscope.cli.checks import as_json

SOURCES = ("source", "store", "a", "model")
"""Names of the argument that may be a folder of activations."""


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Sites of the store that was typed, or the blocks of a model folder."""
    folder = _source(ctx)
    names = ["all", "embed"]
    if folder is not None:
        stored = list(as_json(folder / "store.json").get("sites", ()))
        names = stored or [*names, *map(str, range(_blocks(as_json(folder / "config.json"))))]
    return _last_of_list(names, incomplete)


def labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Label columns of the store that was typed."""
    folder = _source(ctx)
    names = _columns(folder) if folder is not None else ()
    return [name for name in names if name.startswith(incomplete)]


def stores(incomplete: str) -> list[str]:
    """Folders of activations and of models, and folders on the way to some."""
    return list(_folders(incomplete, ("store.json", "config.json")))


def findings(incomplete: str) -> list[str]:
    """Folders of saved findings, and folders on the way to some."""
    return list(_folders(incomplete, ("finding.json",)))


def one_of(*names: str) -> Any:
    """Completion among fixed names; of a comma-separated list, its last."""

    def offered(incomplete: str) -> list[str]:
        return _last_of_list(names, incomplete)

    return offered


def _last_of_list(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _source(ctx: typer.Context) -> Path | None:
    """What was typed before the option; while that has no value yet, it is not sorted into names."""
    typed = [ctx.params[name] for name in SOURCES if ctx.params.get(name)]
    folders = [Path(str(one)).expanduser() for one in (*typed, *ctx.args)]
    return next((folder for folder in folders if folder.is_dir()), None)


def _folders(incomplete: str, marks: tuple[str, ...]) -> Iterator[str]:
    """Paths below what is typed that hold one of `marks`; else those that have folders in them."""
    typed = Path(incomplete).expanduser()
    parent = typed if incomplete.endswith("/") else typed.parent
    head = incomplete if incomplete.endswith("/") else incomplete[: -len(typed.name) or None]
    begin = "" if incomplete.endswith("/") else typed.name
    try:
        inside = sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return
    for path in inside:
        if not path.name.startswith(begin) or (path.name.startswith(".") and not begin):
            continue
        if any((path / mark).is_file() for mark in marks):
            yield f"{head}{path.name}"
        elif any(next(path.glob(f"*/{mark}"), None) for mark in marks):
            yield f"{head}{path.name}/"


def _blocks(config: dict[str, Any]) -> int:
    names = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


def _columns(folder: Path) -> list[str]:
    """Names of label columns, from the schema of the first shard."""
    first = next(iter(sorted((folder / "shards").glob("*.parquet"))), None)
    if first is None:
        return []
    from pyarrow import ArrowException, parquet

    from layerscope.store.rowfile import STRUCTURE

    try:
        names = parquet.read_schema(first).names
    except (ArrowException, OSError):
        return []
    return [name for name in names if name not in STRUCTURE]
