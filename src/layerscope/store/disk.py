"""Files that exist whole or not at all, and errors a reader of a full disk can act on."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".part"
"""Ending of files still being written; nothing with this ending is ever read."""


def publish(path: Path, parts: Iterable[bytes | memoryview], size: int) -> None:
    """Write `parts` one after the other so that `path` appears complete, synced, or not at all.

    Args:
        size: bytes in all parts together, for the message when the disk is full.

    Raises:
        OSError: as the system gave it; a full disk says what is needed and what is free.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("xb", buffering=0) as file:
            for part in parts:
                _write_all(file.fileno(), memoryview(part))
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, size, error) from error
        raise
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _write_all(descriptor: int, data: memoryview) -> None:
    """One `write` may take less than all, above 2 GiB always."""
    data = data.cast("B") if data.nbytes else memoryview(b"")
    while data:
        data = data[os.write(descriptor, data) :]


def _disk_full(path: Path, size: int, error: OSError) -> OSError:
    free = shutil.disk_usage(path.parent).free
    return OSError(
        error.errno,
        f"no space for {path.name}: it needs {megabytes(size)}, {megabytes(free)} are free. "
        "Nothing half-written is left; free some space and run the same command again: "
        "it goes on with the missing shards",
        str(path),
    )


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (Windows has no such call)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def megabytes(size: int) -> str:
    """A size in MB (10^6 bytes) with one decimal."""
    return f"{size / 1e6:,.1f} MB"
