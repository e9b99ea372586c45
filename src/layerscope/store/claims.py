"""Who writes which shard when several processes fill one store.

A claim is a lock of the operating system on a file of its own, so it ends with its process,
however that dies. The locks only save work and tell dead writers from living ones: shards are
complete and correct without them, because each is put in place in one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from layerscope.store.disk import TEMPORARY

_LEFTOVER = re.compile(rf"\.(?:(\d{{6,}})|store)\..+{re.escape(TEMPORARY)}")


class Claims:
    """The locks of one store, in its folder `locks`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[int, BaseFileLock] = {}

    def whole_store(self) -> BaseFileLock:
        """Hold while store.json is written."""
        return FileLock(self._folder / "store.lock")

    def lock(self, index: int) -> BaseFileLock:
        """The lock of one shard, the same object for all threads of this process.

        So a storage thread may write what another thread claimed.
        """
        path = self._folder / f"{index:06d}.lock"
        return self._locks.setdefault(index, FileLock(path, thread_local=False))

    def attempt(self, index: int) -> AbstractContextManager[bool]:
        """Whether the lock of this shard was free; if so it is held until the block ends."""
        return _attempt(self.lock(index))

    def remove_leftovers(self) -> None:
        """Delete unfinished files whose writer is dead: nobody holds the lock it wrote under."""
        for path in self._folder.parent.rglob(f".*{TEMPORARY}"):
            if (found := _LEFTOVER.fullmatch(path.name)) is None:
                continue
            lock = self.lock(int(found[1])) if found[1] else self.whole_store()
            with _attempt(lock) as dead:
                if dead:
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the lock files of a finished store, in which no claim is worth anything."""
        for path in self._folder.glob("[0-9]*.lock"):
            path.unlink(missing_ok=True)


@contextmanager
def _attempt(lock: BaseFileLock) -> Iterator[bool]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
