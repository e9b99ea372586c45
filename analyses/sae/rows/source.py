"""Where training rows come from: endless, shuffled, the same rows of all sites, resumed bit by bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor


class Rows(ABC):
    """Rows of one or several sites in one shuffled order that never ends.

    Every source gives float32 on `device`. A pass takes each row once; the next pass has an order
    of its own. Use as a context manager, or call `close` when done.
    """

    sites: tuple[str, ...]
    widths: tuple[int, ...]
    device: torch.device
    about: dict[str, Any]
    """Model, data and store_key, as JSON values."""
    reserved: int = 0
    """Bytes on `device` that the source itself takes to shuffle its rows, at most."""

    @property
    def identity(self) -> str:
        """Tells these rows and their order from any others, which `about` may not; empty: it does."""
        return ""

    @property
    @abstractmethod
    def per_pass(self) -> int | None:
        """Rows of one pass; None while a source has not seen its first pass to the end."""

    @abstractmethod
    def next(self, size: int) -> tuple[Tensor, ...]:
        """The next `size` rows, one float32 tensor [size, width] for each site, row by row the same.

        Batches are never short: one may end a pass and begin the next.

        Raises:
            ValueError: a pass has fewer rows than that, or a row is NaN or infinite (named).
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that decides what comes next, on the CPU; later calls do not alter it."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on exactly where `state` was taken, with a source built the same way.

        Raises:
            ValueError: the state is of another source; says both.
        """

    @abstractmethod
    def sample(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Rows for statistics and initialisation, one float32 tensor [n, width] for each site.

        The order of `next` does not move. Fewer than `count` come where there are fewer.
        """

    @abstractmethod
    def effective_groups(self, size: int) -> float:
        """How many texts a batch of `size` rows mixes: 1 / P(two of its rows come from one text).

        Measured on batches of this source. Infinite where no two do; NaN where it is not known
        which rows share a text.
        """

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing happens in the background inside: a live model may be run or edited."""
        yield

    def close(self) -> None:
        """End what runs in the background; calling it again does nothing."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        count = f"{self.per_pass:,}" if self.per_pass is not None else "unknown"
        sites = ", ".join(
            f"{site} [{width}]" for site, width in zip(self.sites, self.widths, strict=True)
        )
        return f"{type(self).__name__}({sites}; {count} rows of a pass, {self.device})"


def refuse_short(what: str, there: int, size: int) -> None:
    """Raise ValueError where a pass has fewer rows than a batch."""
    if size < 1:
        raise ValueError(f"a batch has at least 1 row, not {size}")
    if there < size:
        raise ValueError(
            f"{what} has {there:,} rows and a batch takes {size:,}; pass batch={there} or fewer, or "
            "extract more texts"
        )


def refuse_broken(site: str, rows: Tensor, name: Any) -> None:
    """Raise ValueError where rows [n, width] are NaN or infinite, naming the first.

    Args:
        site: What the rows are of.
        name: From a place among these rows to words that say which row it is.
    """
    # A sum of finite activations is finite (in float32, short of 3e38): one pass and no mask.
    if torch.isfinite(rows.sum(dtype=torch.float32)):
        return
    bad = (~torch.isfinite(rows)).any(1).nonzero().flatten().tolist()
    if bad:
        kind = "NaN" if rows[bad[0]].isnan().any() else "infinite"
        raise ValueError(
            f"{site} is {kind} at {name(bad[0])} ({len(bad)} such rows among the {len(rows):,} read "
            "with it); leave those rows out (rows=...), or mend the model that made them"
        )
