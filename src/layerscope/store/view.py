"""One site of a store as a lazy [rows, width] matrix over its shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.store import mixing
from layerscope.store.layout import SiteSpec
from layerscope.store.shard import Shard, as_numpy

if TYPE_CHECKING:
    import pandas as pd

    RowIndex = int | slice | Sequence[int] | np.ndarray[Any, Any] | Tensor | pd.Series[Any]


class SiteView:
    """Activations of one site, [rows, width], read from disk when indexed.

    ``view[1000:2000]``, ``view[7]``, ``view[mask]``, ``view[[5, 2, 2]]`` give tensors in the
    stored dtype, on the CPU. Each is the caller's own: writing into one changes neither the
    store nor any other tensor.
    """

    def __init__(self, site: str, spec: SiteSpec, shards: Sequence[Shard]) -> None:
        self.site = site
        self.spec = spec
        self._shards = [shard for shard in shards if shard.rows]
        self._ends = np.cumsum([shard.rows for shard in self._shards], dtype=np.int64)
        self._starts = self._ends - np.array([shard.rows for shard in self._shards], np.int64)

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

        Args:
            shuffle: mix over the whole store (see `mixing.shuffled`). The same seed gives the same
                order everywhere; give another seed for another epoch. No global generator moves.
            rows: only these rows, as anything that indexes a view; a training fold for example.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        chosen = None if rows is None else self._numbers(rows)
        count = len(self) if chosen is None else len(chosen)
        if shuffle:
            order = mixing.cut(mixing.shuffled(count, self.spec.row_bytes, seed), size)
        else:
            order = mixing.in_order(count, size)
        for piece in order:
            index = piece if chosen is None else chosen[piece]
            straight = not shuffle and chosen is None
            data = self._range(index[0], index[-1] + 1) if straight else self._gather(index)
            yield data, torch.from_numpy(index)

    @cached_property
    def _arrays(self) -> list[np.ndarray[Any, Any]]:
        """Every shard's rows, mapped once and never handed out: gathers copy from here."""
        return [as_numpy(shard.array(self.site, self.spec)) for shard in self._shards]

    def _at(self, index: Any) -> Tensor:
        return self._gather(self._numbers(index))

    def _range(self, first: int, stop: int) -> Tensor:
        """Rows first..stop: a private map of the one shard they lie in, or copied from several."""
        within = int(np.searchsorted(self._ends, first, side="right"))
        if first < stop <= self._ends[within]:
            start = int(self._starts[within])
            return self._shards[within].array(self.site, self.spec)[first - start : stop - start]
        return self._gather(np.arange(first, max(first, stop)))

    def _gather(self, index: mixing.Index) -> Tensor:
        """Copy rows out, shard by shard; one thread of plain copying outruns torch's own here."""
        out = torch.empty(len(index), self.spec.width, dtype=self.dtype)
        target = as_numpy(out)
        shard = np.searchsorted(self._ends, index, side="right")
        order = None if (shard[1:] >= shard[:-1]).all() else np.argsort(shard, kind="stable")
        cuts = np.searchsorted(shard if order is None else shard[order], range(len(self._ends) + 1))
        for number in np.flatnonzero(np.diff(cuts)):
            piece: Any = slice(cuts[number], cuts[number + 1])
            piece = piece if order is None else order[piece]
            local = index[piece] - self._starts[number]
            target[piece] = self._arrays[number].take(local, axis=0, mode="clip")
        return out

    def _numbers(self, index: Any) -> mixing.Index:
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
                raise IndexError(f"{self.site}: mask of {len(array)} for {len(self)} rows")
            return np.flatnonzero(array)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise TypeError(
                f"{self.site}: rows are chosen by slice, int, mask or ints, not by {array.dtype}"
            )
        array = array.astype(np.int64)
        outside = (array < -len(self)) | (array >= len(self))
        if outside.any():
            raise IndexError(f"{self.site}: row {array[outside][0]} of {len(self)}")
        return np.where(array < 0, array + len(self), array)
