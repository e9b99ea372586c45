"""Rows that lie in memory, on whatever device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.sae.rows.ordered import OrderedRows
from layerscope.analyses.sae.rows.source import refuse_broken
from layerscope.store import key_of
from layerscope.store.fingerprint import fingerprint
from layerscope.store.mixing import Index

SITE = "rows"
"""Name of the one site of a bare tensor."""


class HeldRows(OrderedRows):
    """Tensors in memory as a source of training rows.

    Args:
        data: [rows, width] for each site, the same number of rows; or one tensor, whose site is
            then called "rows". They are not copied, and must not change.
        groups: Of each row, the number of its text [rows]; None where not known.
        device: Where batches are wanted; None leaves the tensors where they are, else they are
            moved there once.

    Raises:
        ValueError: shapes that are no [rows, width] of equal length, or a NaN row (named).
    """

    def __init__(
        self,
        data: Tensor | Mapping[str, Tensor],
        *,
        seed: int = 0,
        groups: np.ndarray[Any, Any] | None = None,
        device: torch.device | str | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        given = {SITE: data} if isinstance(data, Tensor) else dict(data)
        _check(given, groups)
        where = next(iter(given.values())).device if device is None else torch.device(device)
        self._data = {site: rows.detach().to(where) for site, rows in given.items()}
        self._group_numbers = groups
        sizes = [rows.shape[1] * rows.element_size() for rows in given.values()]
        super().__init__(
            tuple(given),
            tuple(rows.shape[1] for rows in given.values()),
            len(next(iter(given.values()))),
            row_bytes=min(sizes),
            pooled_bytes=0,  # in memory there is nothing to be kind to: one pool, however large
            seed=seed,
            device=where,
            about=about or {},
        )

    @cached_property
    def identity(self) -> str:
        """A hash of all numbers: two tensors of one shape are not the same rows."""
        return key_of({site: fingerprint(rows) for site, rows in self._data.items()})

    def _read(self, order: Iterator[Index]) -> Iterator[tuple[Tensor, ...]]:
        for index in order:
            yield self._at(index)

    def _at(self, index: Index) -> tuple[Tensor, ...]:
        chosen = torch.from_numpy(index).to(self.device, non_blocking=True)
        return tuple(rows.index_select(0, chosen).float() for rows in self._data.values())

    def _groups(self) -> np.ndarray[Any, Any] | None:
        return self._group_numbers


def _check(data: Mapping[str, Tensor], groups: np.ndarray[Any, Any] | None) -> None:
    if not data:
        raise ValueError("no rows: give a tensor [rows, width], or one for each site")
    length = len(next(iter(data.values())))
    for site, rows in data.items():
        if rows.ndim != 2 or not rows.is_floating_point():
            raise ValueError(
                f"{site}: rows are a floating-point tensor [rows, width], got {rows.dtype} "
                f"{list(rows.shape)}; flatten(0, -2) joins batch and position"
            )
        if len(rows) != length:
            raise ValueError(f"{site} has {len(rows):,} rows, other sites {length:,}")
        refuse_broken(site, rows, lambda place: f"row {place}")
    if groups is not None and len(groups) != length:
        raise ValueError(f"{len(groups):,} groups for {length:,} rows")
