"""Rows of what-ifs in batches: those that begin at one position together, within a byte budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.hooks.replaying.lanes import EachBlock, Rows, rows_of
from layerscope.hooks.replaying.recording import Pass
from layerscope.hooks.replaying.what_if import WhatIf, entry, stream_index


@dataclass(frozen=True, eq=False)
class Sweep:
    """What is asked of one sweep; see `Recording.lanes`."""

    what_ifs: Sequence[WhatIf]
    keep: Sequence[str]
    last: int | None
    generate: int
    each_block: EachBlock | None
    budget: int
    grad: bool
    progress: bool


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a recorded pass left to continue from."""

    stream: Sequence[Tensor]
    """By residual index, [b, p, d]."""
    logits: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that are computed together, and from where."""

    where: Tensor
    """Which of all rows these are."""
    rows: Rows
    begin: int
    """The first block that runs."""
    offset: int
    """The first position that is computed."""


def batches(work: Pass, asked: Sweep, recorded: Recorded | None) -> Iterator[Batch]:
    """All rows, those that are computed from the same position on together.

    Without a record everything is computed: all positions, from block 0 on.
    """
    rows = rows_of(asked.what_ifs)
    offsets = _offsets(work, asked, recorded)[rows.what_if]
    for offset in torch.unique(offsets).tolist():
        where = torch.nonzero(offsets == offset).flatten()
        size = max(1, asked.budget // _row_bytes(work, asked, offset))
        for chosen in _split(where, rows, size, asked.what_ifs):
            chosen = chosen[torch.argsort(rows.start[chosen], stable=True)]
            begin = 0 if recorded is None else _begin(work, asked, rows[chosen])
            yield Batch(chosen, rows[chosen], begin, int(offset))


def _split(where: Tensor, rows: Rows, size: int, what_ifs: Sequence[WhatIf]) -> Iterator[Tensor]:
    """Batches of at most `size` rows, but what-ifs whose rows depend on each other stay whole."""
    if len(where) <= size:
        yield where
        return
    whole = torch.tensor([one.whole for one in what_ifs])[rows.what_if[where]]
    for number in torch.unique(rows.what_if[where[whole]]).tolist():
        yield where[rows.what_if[where] == number]
    # Rows of one prompt together: each batch computes the baselines of its prompts.
    free = where[~whole]
    yield from free[torch.argsort(rows.of[free], stable=True)].split(size) if len(free) else ()


def _offsets(work: Pass, asked: Sweep, recorded: Recorded | None) -> Tensor:
    """For each what-if the first position to compute."""
    length = work.positions
    earliest = torch.tensor([one.earliest(length) for one in asked.what_ifs])
    if recorded is None or work.cache is None:
        return torch.zeros_like(earliest)
    earliest = earliest.clamp(max=length - (asked.last or 1))
    # Only last logits can be put together from rows that were computed from different positions.
    apart = asked.last is not None and not asked.keep and asked.each_block is None
    return earliest if apart else earliest.min().expand_as(earliest)


def _begin(work: Pass, asked: Sweep, rows: Rows) -> int:
    """The first block to run: that of the first change, or of the first site to keep."""
    if len({block.path for block in work.anatomy.blocks}) < work.blocks:
        return 0  # blocks that share a module are told apart by counting its calls
    kept = [stream_index(site) for site in asked.keep]
    kept += [entry(work.model, site) for site in asked.keep]
    return min([int(rows.start.min()), *(index for index in kept if index is not None)])


def _row_bytes(work: Pass, asked: Sweep, offset: int) -> int:
    """About what one row takes: the widest tensors of a block, its keys and values, its logits."""
    width = work.anatomy.width or work.inputs.first.shape[-1]
    vocab = getattr(getattr(work.model, "config", None), "vocab_size", None) or 0
    computed = work.positions - offset
    floats = computed * (16 * width + 4 * work.positions)
    floats += 2 * (computed if asked.last is None else asked.last) * vocab
    floats += 2 * work.positions * width * (work.blocks if asked.generate else 1)
    floats += computed * width * len(asked.keep)
    return 4 * floats
