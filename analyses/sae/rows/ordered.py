"""Rows with numbers, read in seeded passes: what a store and a tensor in memory have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.sae.rows import mixing
from layerscope.analyses.sae.rows.source import Rows, refuse_short
from layerscope.store.mixing import Index, cut, shuffled

MEASURED = 8
"""Batches whose texts are counted for `effective_groups`."""


class OrderedRows(Rows):
    """Rows 0 to `count`, each pass in an order that its seed and number decide.

    Args:
        count: Rows of a pass.
        row_bytes: Of one row at one site: how many neighbours are worth reading together.
        pooled_bytes: Of one row at all sites: how many rows are shuffled at a time.
    """

    def __init__(
        self,
        sites: tuple[str, ...],
        widths: tuple[int, ...],
        rows: int,
        *,
        row_bytes: int,
        pooled_bytes: int,
        seed: int,
        device: torch.device,
        about: dict[str, Any],
    ) -> None:
        self.sites, self.widths, self.device, self.about = sites, widths, device, about
        self.seed = seed
        self._rows, self._row_bytes, self._pooled_bytes = rows, row_bytes, pooled_bytes
        self._served = 0
        self._size = 0
        self._plan: Iterator[tuple[Tensor, ...]] | None = None

    @property
    def per_pass(self) -> int:
        return self._rows

    def next(self, size: int) -> tuple[Tensor, ...]:
        refuse_short(", ".join(self.sites), self._rows, size)
        if self._plan is None or size != self._size:
            self.close()
            self._size = size
            self._plan = self._read(self.order(self._served, size))
        try:
            rows = next(self._plan)
        except BaseException:
            self.close()  # a generator that raised is over; the next call reads the batch again
            raise
        self._served += size
        return rows

    def order(self, served: int, size: int) -> Iterator[Index]:
        """Row numbers of the batches to come after `served` rows, without end."""
        first, skipped = divmod(served, self._rows)
        passes = chain.from_iterable(self._pass(number) for number in count(first))
        return cut(_without(passes, skipped), size)

    def _pass(self, number: int) -> Iterator[Index]:
        seed = np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)
        return shuffled(self._rows, self._row_bytes, int(seed[0]), pooled_bytes=self._pooled_bytes)

    def state(self) -> dict[str, Tensor]:
        return {"place": torch.tensor([self._served, self._rows, self.seed])}

    def restore(self, state: dict[str, Tensor]) -> None:
        served, rows, seed = state["place"].tolist()
        if (rows, seed) != (self._rows, self.seed):
            raise ValueError(
                f"the state is of a source of {rows:,} rows with seed {seed}, this one has "
                f"{self._rows:,} rows and seed {self.seed}; go on with the same rows and seed"
            )
        self.close()
        self._served = served

    def sample(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        random = np.random.default_rng(seed)
        size = min(count, self._rows)
        # Read in order, which is kind to a disk, and mixed afterwards.
        chosen = np.sort(random.choice(self._rows, size, replace=False))
        mixed = torch.from_numpy(random.permutation(size)).to(self.device)
        return tuple(rows[mixed] for rows in self._at(chosen))

    def effective_groups(self, size: int) -> float:
        refuse_short(", ".join(self.sites), self._rows, size)
        groups = self._groups()
        if groups is None:
            return math.nan
        batches = islice(self.order(self._served, size), MEASURED)
        return mixing.effective_groups(groups[batch] for batch in batches)

    def close(self) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()  # type: ignore[attr-defined]

    @abstractmethod
    def _read(self, order: Iterator[Index]) -> Iterator[tuple[Tensor, ...]]:
        """A generator of batches in this order."""

    @abstractmethod
    def _at(self, index: Index) -> tuple[Tensor, ...]:
        """These rows of each site, float32 on the device."""

    @abstractmethod
    def _groups(self) -> np.ndarray[Any, Any] | None:
        """Of each row, the number of its text; None where not known."""


def _without(pieces: Iterator[Index], skipped: int) -> Iterator[Index]:
    """The numbers of all pieces except the first `skipped`."""
    for piece in pieces:
        kept = piece[skipped:]
        skipped = max(0, skipped - len(piece))
        if len(kept):
            yield kept
