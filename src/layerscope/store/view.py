"""One site of a store as a lazy [rows, width] matrix over its shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.store import mixing
from layerscope.store.ahead import WORKERS, ahead
from layerscope.store.layout import SiteSpec
from layerscope.store.mixing import Index
from layerscope.store.shard import Shard, as_numpy

if TYPE_CHECKING:
    import pandas as pd

    RowIndex = int | slice | Sequence[int] | np.ndarray[Any, Any] | Tensor | pd.Series[Any]

Batch = Callable[[], tuple[Tensor, Tensor]]


class SiteView:
    """Activations of one site, [rows, width], read from disk when indexed.

    ``view[1000:2000]``, ``view[7]``, ``view[mask]``, ``view[[5, 2, 2]]`` give tensors in the
    stored dtype, on the CPU. Each is a copy of its own: writing into one changes neither the store
    nor any other tensor.
    """

    def __init__(self, site: str, spec: SiteSpec, shards: Sequence[Shard]) -> None:
        self.site = site
        self.spec = spec
        self._shards = [shard for shard in shards if shard.rows]
        self._ends = np.cumsum([shard.rows for shard in self._shards], dtype=np.int64)
        self._starts = self._ends - np.array([shard.rows for shard in self._shards], np.int64)

        # Numbers of 16 bits are sorted many times faster.
        self._shard_number = np.min_scalar_type(len(self._shards))

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self), self.spec.width)

    @property
    def dtype(self) -> torch.dtype:
        return self.spec.dtype

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __repr__(self) -> str:
        rows, width = self.shape
        return f"SiteView({self.site!r}, [{rows:,} rows, {width}], {self.dtype})"

    def __getitem__(self, index: RowIndex) -> Tensor:
        """Rows by slice, number, boolean mask, or numbers in any order, repeated or negative.

        Raises:
            IndexError: a row that is not there, or a mask of another length.
            TypeError: anything else, such as a second index for columns.
        """
        if isinstance(index, slice):
            first, stop, step = index.indices(len(self))
            return self._range(first, stop) if step == 1 else self._at(range(first, stop, step))
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            return self._at([int(index)])[0]
        return self._at(index)

    def read_into(self, index: RowIndex, out: Tensor) -> Tensor:
        """These rows copied into `out`, [at least as many, width] in the stored dtype on the CPU.

        For memory of the caller's choice, such as pinned memory. Several threads may read at once.

        Returns:
            The part of `out` that was filled.

        Raises:
            ValueError: `out` is too short, of another width or of another dtype.
        """
        rows = self._numbers(index)
        if out.dtype != self.dtype or out.shape[1:] != (self.spec.width,) or len(out) < len(rows):
            raise ValueError(
                f"{self.site}: {len(rows)} rows need {self.dtype} [{len(rows)}, {self.spec.width}],"
                f" got {out.dtype} {list(out.shape)}"
            )
        return self._copy(rows, out[: len(rows)])

    def tensor(self) -> Tensor:
        """All rows, [rows, width], in memory."""
        return self[:]

    def numpy(self) -> np.ndarray[Any, Any]:
        """All rows as a numpy array; bfloat16, which numpy does not have, comes as float32."""
        rows = self[:]
        return (rows.float() if self.dtype == torch.bfloat16 else rows).numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """So that numpy and scikit-learn take a view as a matrix."""
        return np.asarray(self.numpy(), dtype=dtype)

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, rows: RowIndex | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each row once, as ``(rows [size, width], row numbers [size])``; the last may be shorter.

        The next batches are read meanwhile.

        Args:
            shuffle: mix over the whole store (see `mixing.shuffled`). The same seed gives the same
                order everywhere; give another seed for another epoch. No global generator moves.
            rows: only these rows, as anything that indexes a view; a training fold for example.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        chosen = None if rows is None else self._numbers(rows)
        plan = self._shuffled(chosen, size, seed) if shuffle else self._in_order(chosen, size)
        return ahead(plan)

    def _in_order(self, chosen: Index | None, size: int) -> Iterator[Batch]:
        count = len(self) if chosen is None else len(chosen)
        for first in range(0, count, size):
            stop = min(first + size, count)
            if chosen is None:
                yield partial(self._range_batch, first, stop)
            else:
                yield self._batch(chosen[first:stop])

    def _shuffled(self, chosen: Index | None, size: int, seed: int) -> Iterator[Batch]:
        count = len(self) if chosen is None else len(chosen)
        order = mixing.shuffled(count, self.spec.row_bytes, seed)
        # As many as there are workers: a buffer is free again when its turn comes.
        spares = cycle(self._empty(min(size, count)) for _ in range(WORKERS))
        for places in mixing.cut(order, size):
            yield self._batch(places if chosen is None else chosen[places], next(spares))

    def _batch(self, index: Index, spare: Tensor | None = None) -> Batch:
        # Made here, in the thread that frees it: there the allocator uses its memory again.
        out = self._empty(len(index))
        return lambda: (self._copy(index, out, spare), torch.from_numpy(index))

    def _range_batch(self, first: int, stop: int) -> tuple[Tensor, Tensor]:
        return self._range(first, stop), torch.arange(first, stop)

    @cached_property
    def _arrays(self) -> list[np.ndarray[Any, Any]]:
        """Every shard's rows, mapped once and never handed out: gathers copy from here."""
        return [as_numpy(shard.array(self.site, self.spec)) for shard in self._shards]

    def _at(self, index: Any) -> Tensor:
        rows = self._numbers(index)
        return self._copy(rows, self._empty(len(rows)))

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self.spec.width, dtype=self.dtype)

    def _copy(self, index: Index, out: Tensor, spare: Tensor | None = None) -> Tensor:
        """Fill `out` with these rows, shard by shard; through `spare` where they go to and fro.

        Plain copies of numpy: they outrun torch's on one thread, and two threads do not meet.
        """
        shard = np.searchsorted(self._ends, index, side="right").astype(self._shard_number)
        if (shard[1:] >= shard[:-1]).all():
            self._copy_ordered(index, shard, as_numpy(out))
            return out
        order = np.argsort(shard, kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        spare = self._empty(len(index)) if spare is None else spare[: len(index)]
        self._copy_ordered(index[order], shard[order], as_numpy(spare))
        np.take(as_numpy(spare), places, axis=0, mode="clip", out=as_numpy(out))
        return out

    def _copy_ordered(
        self, index: Index, shard: np.ndarray[Any, Any], out: np.ndarray[Any, Any]
    ) -> None:
        local = index - self._starts[shard]
        cuts = np.searchsorted(shard, np.arange(len(self._ends) + 1)).tolist()
        for array, first, stop in zip(self._arrays, cuts, cuts[1:], strict=False):
            if first < stop:
                np.take(array, local[first:stop], axis=0, mode="clip", out=out[first:stop])

    def _range(self, first: int, stop: int) -> Tensor:
        """Rows first..stop, copied piece by piece."""
        out = self._empty(max(0, stop - first))
        target = as_numpy(out)
        from_shard = int(np.searchsorted(self._ends, first, side="right"))
        to_shard = int(np.searchsorted(self._starts, stop, side="left"))
        for number in range(from_shard, to_shard):
            start = int(self._starts[number])
            piece = self._arrays[number][max(0, first - start) : stop - start]
            place = max(0, start - first)
            target[place : place + len(piece)] = piece
        return out

    def _numbers(self, index: Any) -> Index:
        """Any way of naming rows, as row numbers from 0."""
        if isinstance(index, tuple):
            raise TypeError(f"{self.site}: one index, for rows; take columns of what it returns")
        if isinstance(index, slice):
            return np.arange(len(self))[index]
        array = index.cpu().numpy() if isinstance(index, Tensor) else np.asarray(index)
        if array.ndim != 1:
            raise TypeError(f"{self.site}: row index needs one dimension, got shape {array.shape}")
        if array.dtype == bool:
            if len(array) != len(self):
                raise IndexError(
                    f"{self.site}: mask of {len(array)} for {len(self)} rows; make it from store.rows, "
                    "such as store.rows['upos'] == 'NOUN'"
                )
            return np.flatnonzero(array)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise TypeError(
                f"{self.site}: rows are chosen by slice, int, mask or ints, not by {array.dtype}"
            )
        array = array.astype(np.int64)
        outside = (array < -len(self)) | (array >= len(self))
        if outside.any():
            raise IndexError(
                f"{self.site}: row {array[outside][0]} of {len(self)}; rows are 0 to {len(self) - 1}"
            )
        return np.where(array < 0, array + len(self), array)
