"""Rows of a store: read ahead on threads, all sites of a row by the same number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.sae.rows.ordered import OrderedRows
from layerscope.analyses.sae.rows.source import refuse_broken
from layerscope.store import Store, key_of
from layerscope.store.ahead import ahead
from layerscope.store.mixing import Index

if TYPE_CHECKING:
    from layerscope.store.view import RowIndex

SHARE_OF_DEVICE = 0.25
"""A store that takes at most this share of the free memory of a CUDA device is moved there."""

Read = tuple[Tensor, ...]


class StoredRows(OrderedRows):
    """Sites of a store as a source of training rows.

    The next two batches are read while one is used. For CUDA they are read into pinned memory and
    copied without waiting; a store that fits well into the device's memory is moved there once.
    The order is the same in all three cases.

    Args:
        store: A store with these sites.
        sites: Names, or layers as ints (``3`` is ``blocks.3.resid_post``).
        device: Where batches are wanted.
        rows: Only these rows, as anything that indexes a view; a training fold for example.

    Raises:
        LookupError: a site that the store does not have; names the nearest ones.
        ValueError: no rows, or the same one twice.
    """

    def __init__(
        self,
        store: Store,
        sites: Sequence[str | int],
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rows: RowIndex | None = None,
    ) -> None:
        self.store = store
        self._views = [store[site] for site in sites]
        self._chosen = _chosen(len(store), rows)
        sizes = [view.spec.row_bytes for view in self._views]
        super().__init__(
            tuple(view.site for view in self._views),
            tuple(view.spec.width for view in self._views),
            len(store) if self._chosen is None else len(self._chosen),
            row_bytes=min(sizes),
            pooled_bytes=sum(sizes),
            seed=seed,
            device=torch.device(device),
            about={
                "model": store.about.get("model", ""),
                "data": store.about.get("corpus", ""),
                "store_key": store.key,
            },
        )

    @cached_property
    def identity(self) -> str:
        """Which rows of the store were chosen; `about` says which store it is."""
        return "" if self._chosen is None else key_of({"rows": self._chosen.tolist()})

    def _read(self, order: Iterator[Index]) -> Iterator[Read]:
        if self._on_device is not None:
            yield from (self._gathered(self._on_device, index) for index in order)
            return
        yield from map(self._sent, ahead(partial(self._from_disk, index) for index in order))

    def _at(self, index: Index) -> Read:
        return self._sent(self._from_disk(index))

    def _from_disk(self, places: Index) -> Read:
        """Rows of each site in host memory, float32 where they stay there; on a reading thread."""
        index = places if self._chosen is None else self._chosen[places]
        found = []
        for view in self._views:
            pinned = self.device.type == "cuda"
            memory = torch.empty(len(index), view.spec.width, dtype=view.dtype, pin_memory=pinned)
            rows = view.read_into(index, memory)
            refuse_broken(view.site, rows, lambda place: self._words(int(index[place])))
            found.append(rows if pinned else rows.float())
        return tuple(found)

    def _sent(self, batch: Read) -> Read:
        # Half-width floats cross the bus as they are and are widened on the device.
        return tuple(rows.to(self.device, non_blocking=True).float() for rows in batch)

    def _gathered(self, whole: Read, places: Index) -> Read:
        index = torch.from_numpy(places).pin_memory().to(self.device, non_blocking=True)
        return tuple(rows.index_select(0, index).float() for rows in whole)

    @cached_property
    def _on_device(self) -> Read | None:
        """All rows on a CUDA device, where they leave room enough for everything else."""
        if self.device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        if self._rows * self._pooled_bytes > SHARE_OF_DEVICE * free:
            return None
        whole = []
        for view in self._views:
            rows = view[:] if self._chosen is None else view[self._chosen]
            refuse_broken(view.site, rows, self._words_of_place)
            whole.append(rows.to(self.device))
        return tuple(whole)

    def _words_of_place(self, place: int) -> str:
        return self._words(place if self._chosen is None else int(self._chosen[place]))

    def _words(self, row: int) -> str:
        """A row as a person finds it again."""
        line = self.store.rows.iloc[row]
        places = [f"{name} {line[name]}" for name in ("text", "sample", "position") if name in line]
        return f"row {row:,} ({', '.join(places)})"

    def _groups(self) -> np.ndarray[Any, Any] | None:
        rows = self.store.rows
        name = next((name for name in ("text", "sample") if name in rows), None)
        if name is None:
            return None
        groups = rows[name].to_numpy()
        return groups if self._chosen is None else groups[self._chosen]


def _chosen(count: int, rows: Any) -> Index | None:
    """Row numbers in order; None for all."""
    if rows is None:
        if not count:
            raise ValueError("the store has no rows; run extract again, with texts")
        return None
    if isinstance(rows, Tensor):
        rows = rows.cpu().numpy()
    found: Index = np.unique(np.arange(count)[rows])
    asked = np.arange(count)[rows].size
    if not len(found):
        raise ValueError(f"rows= chooses none of the {count:,} rows of the store")
    if len(found) != asked:
        raise ValueError(
            f"rows= names {asked - len(found):,} rows twice; give each once, as a mask for example"
        )
    return found
