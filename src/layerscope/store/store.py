"""A store: activations of many sites at the same rows, on disk, under one key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layerscope.store import manifest, rowfile
from layerscope.store.claims import Claims
from layerscope.store.errors import CorruptShard
from layerscope.store.layout import NAMED, SiteSpec
from layerscope.store.manifest import LOCKS, SHARDS
from layerscope.store.meant import meant
from layerscope.store.shard import Shard, corrupt, shard_name, write_shard
from layerscope.store.view import SiteView

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store.contents import StoreFinding

_PAIR = re.compile(r"\d{6,}\.(safetensors|parquet)")


class Store:
    """Activations on disk: ``store[site][rows]`` is read only then; ``store.rows`` says what they are.

    Made by `extract`; `Store.open` reads one again. Shards can only be added: each is there whole
    or not at all, whatever killed its writer, and what is there is never written over.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self.key: str = content["key"]
        self.parts: dict[str, Any] = content["parts"]
        """What the key was computed from."""
        self.about: dict[str, Any] = content["about"]
        """Names for people: model, corpus, versions; not part of the key."""
        self.sites: dict[str, SiteSpec] = {
            name: SiteSpec(entry["width"], NAMED[entry["dtype"]])
            for name, entry in content["sites"].items()
        }
        self._manifest = dict(content)
        self._claims = Claims(path / LOCKS)

    @classmethod
    def create(
        cls,
        path: str | Path,
        parts: Mapping[str, Any],
        *,
        sites: Mapping[str, int],
        dtype: torch.dtype,
        about: Mapping[str, Any],
    ) -> Store:
        """Open the store of these `parts` for writing; make it where there is none.

        Leftovers of writers that died are removed.

        Args:
            parts: everything the numbers depend on, as JSON values; the key is their hash.
            sites: width of each site.
            about: names for people, JSON values.

        Raises:
            StoreMismatch: the folder holds a store with another key.
            ValueError: the folder holds something else, or a store of another format.
            CorruptShard: a shard in it is damaged.
        """
        asked = manifest.new(parts, sites, dtype, about)
        folder = Path(path)
        manifest.refuse_foreign(folder)
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
        (folder / LOCKS).mkdir(exist_ok=True)
        if not (folder / manifest.NAME).is_file():
            with Claims(folder / LOCKS).whole_store():
                if not (folder / manifest.NAME).is_file():
                    manifest.save(folder, asked)
        here = manifest.load(folder)
        if here["key"] != asked["key"]:
            raise manifest.mismatch(folder, here, asked)
        store = cls.open(folder)
        store._claims.remove_leftovers()
        return store

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Read a store; shards are checked for size, key and partner, `verify` reads all of it.

        Raises:
            FileNotFoundError: there is no store in this folder.
            ValueError: another format, or store.json was altered.
            CorruptShard: a shard is truncated, altered in its header, foreign, or lacks its rows.
        """
        store = cls(Path(path), manifest.load(Path(path)))
        _ = store._shards
        return store

    @cached_property
    def _shards(self) -> list[Shard]:
        paths = [path for path in self._folder.glob("*.safetensors") if path.stem.isdecimal()]
        return [
            Shard.read(path, self.key, self.sites)
            for path in sorted(paths, key=lambda path: int(path.stem))
        ]

    def _forget(self) -> None:
        for name in ("_shards", "_views", "_rows", "texts", "_columns"):
            self.__dict__.pop(name, None)

    @property
    def _folder(self) -> Path:
        return self.path / SHARDS

    @property
    def complete(self) -> bool:
        """Whether `finish` was called and every shard it counted is there."""
        return not self._missing and self._manifest["shards"] is not None

    @property
    def _missing(self) -> list[int]:
        there = {shard.index for shard in self._shards}
        return [index for index in range(self._manifest["shards"] or 0) if index not in there]

    @property
    def info(self) -> dict[str, int]:
        """Counts the writer kept, summed over shards; for example texts that were truncated."""
        total: dict[str, int] = {}
        for shard in self._shards:
            for name, count in shard.info.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats of the writer, and of a store that is not complete."""
        notes = tuple(self._manifest["notes"])
        if self.complete:
            return notes
        total = self._manifest["shards"]
        there = f"{len(self._shards)} of {total}" if total else f"{len(self._shards)}"
        return (*notes, f"unfinished store: {there} shards are there; run extract again to go on")

    # Reading

    def __len__(self) -> int:
        return sum(shard.rows for shard in self._shards)

    def __getitem__(self, site: str | int) -> SiteView:
        """The lazy matrix of one site; an int is a layer, counted from the end if negative.

        Raises:
            LookupError: this site is not in the store; names the nearest ones.
        """
        name = meant(site, self.sites, self.path.name)
        return self._views.setdefault(name, SiteView(name, self.sites[name], self._shards))

    @cached_property
    def _views(self) -> dict[str, SiteView]:
        """Kept, because each maps its files once."""
        return {}

    @property
    def rows(self) -> pd.DataFrame:
        """One line per row, in the order of the activations; strings as categoricals.

        Columns: text, position, token... (docs/store.md), then the labels. The frame is the
        caller's own: columns added to it stay out of the store.
        """
        return self._rows.copy(deep=False)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        wanted = [name for name in self._columns if name != rowfile.CONTENT]
        frame: pd.DataFrame = rowfile.read(self._row_files, wanted).to_pandas(self_destruct=True)
        if len(frame) != len(self):
            raise CorruptShard(
                f"{self.path}: {len(frame):,} lines of rows for {len(self):,} activations; "
                "call verify() to see which shard is damaged"
            )
        return frame

    @cached_property
    def texts(self) -> pd.Series[Any]:
        """The content of each text, by its number in the `text` column."""
        return rowfile.texts(self._row_files)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return tuple(name for name in self._columns if name not in rowfile.STRUCTURE)

    @cached_property
    def _columns(self) -> tuple[str, ...]:
        return rowfile.names(self._row_files)

    @property
    def _row_files(self) -> list[Path]:
        return [shard.rows_path for shard in self._shards]

    def finding(self) -> StoreFinding:
        """What is in this store, as a finding: sizes, and the distribution of each label."""
        from layerscope.store.contents import summarise

        return summarise(self)

    def __str__(self) -> str:
        from layerscope.store.contents import describe

        return describe(self)

    def __repr__(self) -> str:
        from layerscope.store.contents import next_step

        return f"{self}\n  next: {next_step(self)}"

    def _repr_html_(self) -> str:
        from layerscope.store.contents import describe_html

        return describe_html(self)

    def _ipython_key_completions_(self) -> list[str]:
        """What Jupyter offers after ``store["``."""
        return list(self.sites)

    # Writing

    def has(self, index: int) -> bool:
        """Whether this shard is there, written by anyone."""
        return (self._folder / f"{shard_name(index)}.safetensors").is_file()

    @contextmanager
    def claim(self, index: int) -> Iterator[bool]:
        """True if this shard is the caller's to compute: not there yet and claimed by nobody else.

        The claim is a lock of the system, so it ends with the process, however it dies.
        """
        with self._claims.attempt(index) as mine:
            yield mine and not self.has(index)

    def write(
        self,
        index: int,
        tensors: Mapping[str, Tensor],
        rows: pd.DataFrame,
        info: Mapping[str, int] | None = None,
    ) -> None:
        """Add one shard; a shard that is already there is left as it is.

        Args:
            tensors: [rows, width] for each site of the store, in its dtype.
            rows: as many lines, in the same order; with `content`, best as a categorical.
            info: counts to sum over shards.

        Raises:
            ValueError: tensors or rows that do not fit the store.
            OSError: the system could not write; a full disk says how much is needed.
        """
        with self._claims.lock(index):
            if not self.has(index):
                write_shard(self._folder, index, self.key, self.sites, tensors, rows, info or {})
        self._forget()

    def finish(self, shards: int, notes: Sequence[str] = ()) -> None:
        """State that shards 0..shards-1 are all there is, with the caveats of the run.

        Raises:
            ValueError: some are missing, or there are more.
        """
        self._forget()
        there = [shard.index for shard in self._shards]
        if there != list(range(shards)):
            wrong = sorted(set(there) ^ set(range(shards)))[:8]
            raise ValueError(f"{self.path}: shards 0..{shards - 1} expected, check {wrong}")
        self._manifest |= {"shards": shards, "notes": list(notes)}
        with self._claims.whole_store():
            manifest.save(self.path, self._manifest)
        self._claims.remove_leftovers()
        self._claims.clear()

    def verify(self) -> None:
        """Read everything and compare with its checksums.

        Raises:
            CorruptShard: names the file, what is wrong with it, and what to do.
        """
        self._forget()
        for path in sorted(self._folder.iterdir()):
            if not (_PAIR.fullmatch(path.name) or path.name.startswith(".")):
                raise CorruptShard(f"{path} is not part of this store; move it elsewhere")
        for index in self._missing:
            raise corrupt(self._folder / f"{shard_name(index)}.safetensors", "is missing")
        for shard in self._shards:
            shard.verify(self.sites)
