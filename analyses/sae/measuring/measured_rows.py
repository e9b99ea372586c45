"""Rows to measure an SAE on, in order and once each, with the text that each is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.drawn_rows import drawn
from layerscope.analyses.material.sample import groups_of
from layerscope.analyses.sae.sae import SAE
from layerscope.probes.reading.stored import stored_sites
from layerscope.store import Store

CODES = 2**24
"""Numbers of one block of codes: rows of a block times latents."""


@dataclass(frozen=True, eq=False)
class MeasuredRows:
    """x and y of the same rows."""

    x: Any
    """[all rows, d_in], a tensor or sites of a store; a tuple has its parts side by side."""
    y: Any
    """The same for y; `x` itself where the SAE reconstructs what it reads."""
    index: NDArray[np.int64]
    """Which of all rows, ascending."""
    groups: NDArray[np.int64]
    """[rows] text numbers from 0."""
    store: Store | None
    site: str
    target: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_groups(self) -> int:
        return int(self.groups.max()) + 1

    def blocks(
        self, latents: int, device: torch.device
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """`(which rows, x, y, groups)`: blocks whose codes take at most `CODES` numbers."""
        size = max(64, CODES // latents)
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            x, y = self.at(part, device)
            yield part, x, y, torch.from_numpy(self.groups[part]).to(device)

    def at(self, part: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        """x and y of some of the rows, by slice or numbers.

        Raises:
            ValueError: a number that is NaN or infinite; names site, row and text.
        """
        rows = self.index[part]
        x = self._read(self.x, rows, device, self.site)
        return x, x if self.y is self.x else self._read(self.y, rows, device, self.target)

    def _read(
        self, source: Any, rows: NDArray[np.int64], device: torch.device, site: str
    ) -> Tensor:
        sources = source if isinstance(source, tuple) else (source,)
        found = torch.cat([one[rows].to(device).float() for one in sources], dim=1)
        bad = ~torch.isfinite(found).all(1)
        if bad.any():
            row = int(rows[int(bad.nonzero()[0])])
            place = ""
            if self.store is not None:
                line = self.store.rows.iloc[row]
                place = f" (text {line['text']}, position {line['position']})"
            raise ValueError(
                f"{site or 'the data'}: row {row:,}{place} is NaN or infinite; leave it out, or run "
                "the model in float32 or bfloat16"
            )
        return found


def measured_rows(
    sae: SAE,
    data: Any,
    *,
    site: str | int | None,
    target: str | int | None,
    corpus: Any,
    rows: int,
    seed: int,
    progress: bool,
) -> MeasuredRows:
    """Open whatever holds the activations.

    Args:
        sae: Names its site and target, where `site` and `target` do not.
        data: A store or its folder, [rows, d_in], {site: [rows, width]}, or a model with `corpus`,
            from which a store is extracted (kept in the cache).
        site: What the SAE reads.
        target: What it reconstructs.
        corpus: For a model.
        rows: At most so many, drawn at random.
        seed: Of the draw.
        progress: Whether extraction shows a bar.

    Raises:
        LookupError: a site that is not there.
        TypeError: data of another kind.
        ValueError: widths that do not fit the SAE, no rows, or a model without a corpus.
    """
    own = tuple(part for part in sae.site.split(",") if part)
    reads: tuple[Any, ...] = own if site is None else (site,)
    writes: tuple[Any, ...] = (
        (target,) if target is not None
        else (sae.target,) if site is None and sae.target and not sae.parts and sae.target != sae.site
        else reads
    )  # fmt: skip
    if isinstance(data, nn.Module):
        data = _extracted(data, corpus, (*reads, *writes), progress)
    if isinstance(data, (str, Path)):
        data = Store.open(data)
    notes: list[str] = []
    if isinstance(data, Store):
        reads, writes = _named(data, reads), _named(data, writes)
        x: tuple[Any, ...] = tuple(data[one] for one in reads)
        y: tuple[Any, ...] = tuple(data[one] for one in writes)
        count = len(data)
    else:
        x, y = _held(data, reads, writes)
        reads, writes = tuple(map(str, reads)), tuple(map(str, writes))
        count = len(x[0])
        notes.append("rows have no texts: each counts as its own in intervals")
    if not count:
        raise ValueError("there are no rows to measure on")
    index = drawn(np.arange(count), rows, seed)
    if len(index) < count:
        notes.append(f"{len(index):,} of {count:,} rows, drawn at random; raise rows to use more")
    store = data if isinstance(data, Store) else None
    groups = np.arange(len(index)) if store is None else groups_of(store.rows, index, notes)
    _check_widths(sae, x, y, reads, writes)
    names = ",".join(reads), ",".join(writes)
    return MeasuredRows(x, x if reads == writes else y, index, groups, store, *names, tuple(notes))


def _extracted(model: nn.Module, corpus: Any, sites: tuple[Any, ...], progress: bool) -> Store:
    from layerscope.hooks.extract import extract

    if corpus is None:
        raise ValueError(
            "a model needs texts to run on: evaluate(sae, model, corpus=...), or give a store"
        )
    if not sites:
        raise ValueError("the SAE does not say which site it reads; pass site=")
    return extract(model, corpus, list(dict.fromkeys(sites)), progress=progress)


def _named(store: Store, sites: tuple[Any, ...]) -> tuple[str, ...]:
    if not sites:
        if len(store.sites) == 1:
            return tuple(store.sites)
        raise ValueError(
            "the SAE does not say which site it reads, and the store has several; pass site=, one "
            f"of {', '.join(store.sites)}"
        )
    return tuple(name for one in sites for name in stored_sites(store, one))


def _held(
    data: Any, reads: tuple[Any, ...], writes: tuple[Any, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    if isinstance(data, Tensor):
        return (data,), (data,)
    if not isinstance(data, Mapping):
        raise TypeError(
            "evaluate takes a store or its folder, a tensor [rows, d], {site: tensor}, or a model "
            f"with corpus=; got {type(data).__name__}"
        )
    if not reads and len(data) == 1:
        return (next(iter(data.values())),), (next(iter(data.values())),)
    missing = [one for one in (*reads, *writes) if one not in data]
    if missing or not reads:
        asked = f"site {missing[0]!r} is not in the data" if missing else "which site? Pass site="
        raise LookupError(f"{asked}; there are {', '.join(map(repr, data))}")
    return tuple(data[one] for one in reads), tuple(data[one] for one in writes)


def _check_widths(
    sae: SAE,
    x: tuple[Any, ...],
    y: tuple[Any, ...],
    reads: tuple[str, ...],
    writes: tuple[str, ...],
) -> None:
    for sources, wanted, names, what in (
        (x, sae.d_in, reads, "reads"),
        (y, sae.d_out, writes, "reconstructs"),
    ):
        width = sum(one.shape[1] for one in sources)
        if width != wanted:
            place = ", ".join(names) or "the data"
            raise ValueError(
                f"{sae!r} {what} rows of width {wanted}, and {place} has width {width}; choose the "
                "site it was trained on with site= (and target=)"
            )
