"""Many what-ifs as rows of one batch: each joins where its first change is, beside the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from layerscope.hooks.edits import Change, Writer
from layerscope.hooks.listening.watch import Listener, places
from layerscope.hooks.replaying.stage import Stage
from layerscope.hooks.replaying.what_if import WhatIf, entry, stream_index
from layerscope.hooks.sites import layer_of

EachBlock = Callable[[int, Tensor, Tensor, Tensor], None]
"""``each_block(block, before, after, what_if)``: the streams [rows, positions, d] that entered and
left a block, and the what-if of each row; baseline rows come first and are marked -1."""


@dataclass(eq=False)
class Rows:
    """Rows of what-ifs, as parallel LongTensors."""

    what_if: Tensor
    own: Tensor
    """Which row of its what-if each one is."""
    of: Tensor
    """The prompt it continues."""
    start: Tensor
    """The residual index where it joins."""

    def __len__(self) -> int:
        return len(self.what_if)

    def __getitem__(self, chosen: Tensor | slice) -> Rows:
        return Rows(self.what_if[chosen], self.own[chosen], self.of[chosen], self.start[chosen])


def rows_of(what_ifs: Sequence[WhatIf]) -> Rows:
    """All rows of `what_ifs`, one what-if after the other."""
    counts = torch.tensor([len(one.of) for one in what_ifs])
    numbers = torch.arange(len(what_ifs)).repeat_interleave(counts)
    return Rows(
        numbers,
        torch.cat([torch.arange(len(one.of)) for one in what_ifs]),
        torch.cat([one.of for one in what_ifs]),
        torch.tensor([one.start or 0 for one in what_ifs])[numbers],
    )


@dataclass(eq=False)
class Lanes:
    """One batch of rows on its way through the blocks. The baseline of their prompts comes first."""

    what_ifs: Sequence[WhatIf]
    rows: Rows
    """In order of `start`."""
    begin: int
    """The first block that runs."""
    offset: int = 0
    """Absolute position of the first computed one."""
    keep: Sequence[str] = ()
    each_block: EachBlock | None = None
    head: bool = True
    """Whether the stream goes on to the final norm and head."""
    kept: dict[str, Tensor] = field(default_factory=dict)
    """Site -> what the rows that were there hold, baseline rows first."""
    final: Tensor | None = None
    """The stream after the last block, baseline rows first."""

    def __post_init__(self) -> None:
        self.bases = torch.unique(self.rows.of)
        self.base_of = torch.searchsorted(self.bases, self.rows.of)
        """Where the baseline of each row is."""
        self.at_stream: dict[int, dict[int, list[tuple[str, Change]]]] = {}
        """Residual index -> what-if -> its changes there."""
        self.within: dict[str, list[Change]] = {}
        for number in torch.unique(self.rows.what_if).tolist():
            for site, changes in self.what_ifs[number].changes.items():
                index = stream_index(site)
                if index is not None:
                    here = self.at_stream.setdefault(index, {}).setdefault(number, [])
                    here.extend((site, change) for change in changes)
                else:
                    moved = [change.on(self._rows_of(number)) for change in changes]
                    self.within.setdefault(site, []).extend(moved)

    def live(self, index: int) -> int:
        """How many rows have joined at residual index `index`."""
        return int((self.rows.start <= index).sum())

    def places(self, index: int) -> Tensor:
        """Where each row is found in the batch at a residual index: itself, or its baseline."""
        own = torch.arange(len(self.rows)) + len(self.bases)
        return torch.where(self.rows.start <= index, own, self.base_of)

    def play(self, stage: Stage, first: Tensor, before: Tensor | None = None) -> Tensor | None:
        """Run the blocks from `begin` on.

        Args:
            stage: The blocks.
            first: The baseline stream that enters block `begin`, all prompts [b, p, d].
            before: The stream that entered the block before that one, for rows that skip it.

        Returns:
            The last stream, baseline rows first; None without a head.
        """
        bases = self.bases.to(first.device)
        x = self._joined(self.begin, first[bases], None if before is None else before[bases])
        for index in range(self.begin, stage.blocks):
            live = self.live(index)
            before = x
            after = stage.block(index, x, torch.cat([self.bases, self.rows.of[:live]]))
            x = self._joined(index + 1, after, before)
            if self.each_block is not None:
                marks = torch.cat([torch.full_like(self.bases, -1), self.rows.what_if[:live]])
                self.each_block(index, before, x[: len(before)], marks)
        self.final = x
        return x if self.head else None

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Inside: changes within blocks are made, and kept sites are heard."""
        heard = dict.fromkeys([*self.keep, *filter(is_path, self.within)])
        starts = {site: entry(model, site) for site in heard if stream_index(site) is None}

        def hear(site: str, x: Tensor, live: object) -> None:
            start = starts[site]
            if start is not None:  # else it is outside the blocks, and has a row for each prompt
                require_rows(site, x, len(self.bases) + self.live(start))
            if site in self.keep:
                self._keep(site, x)

        with ExitStack() as stack:
            if self.within:
                stack.enter_context(Writer(model, self.within).writing())
            if starts:
                listener = Listener(model, places(model, list(starts)), hear)
                stack.enter_context(listener.listening())
            yield

    def lasting(self) -> dict[str, list[Change]]:
        """Changes at all positions, which go on while tokens are generated; rows without baselines."""
        found: dict[str, list[Change]] = {}
        for site, changes in self.everything().items():
            for change in changes:
                if change.at is None and change.onto is not None:
                    rows = torch.where(change.onto < 0, -1, change.onto - len(self.bases))
                    found.setdefault(site, []).append(change.on(rows))
        return found

    def everything(self) -> dict[str, list[Change]]:
        """All changes to all rows, by site; for a pass in which every row is there from the start."""
        found = {site: list(changes) for site, changes in self.within.items()}
        for here in self.at_stream.values():
            for number, changes in here.items():
                for site, change in changes:
                    found.setdefault(site, []).append(change.on(self._rows_of(number)))
        return found

    def _joined(self, index: int, stream: Tensor, before: Tensor | None) -> Tensor:
        """The stream at a residual index, with the rows that begin here, and what is changed here."""
        new = self.base_of[self.rows.start == index].to(stream.device)
        if len(new):
            stream = torch.cat([stream, stream[new]])
            before = None if before is None else torch.cat([before, before[new]])
        for leaving in (True, False):  # what leaves a block is changed before what enters the next
            stream = self._changed(index, leaving, stream, before)
            for site in self.keep:
                if stream_index(site) == index and site.endswith("resid_post") == leaving:
                    self._keep(site, stream)
        return stream

    def _changed(self, index: int, leaving: bool, stream: Tensor, before: Tensor | None) -> Tensor:
        """Each what-if's changes to its own rows, put into the stream together."""
        where, parts = [], []
        for number, changes in self.at_stream.get(index, {}).items():
            own = self._rows_of(number)
            here = torch.nonzero(own >= 0).flatten()
            rows = own[here].to(stream.device)
            part, old = stream[rows], None if before is None else before[rows]
            for site, change in changes:
                if site.endswith("resid_post") != leaving:
                    continue
                if len(here) < len(own):
                    change = change.on(_inverse(here, len(own)))
                part = change.applied(part, site, offset=self.offset, before=old)
            where.append(rows)
            parts.append(part)
        return stream.index_copy(0, torch.cat(where), torch.cat(parts)) if parts else stream

    def _rows_of(self, number: int) -> Tensor:
        """Where in the batch the rows of a what-if are; -1 for those that are in another batch."""
        mine = self.rows.what_if == number
        found = torch.full((len(self.what_ifs[number].of),), -1)
        found[self.rows.own[mine]] = torch.nonzero(mine).flatten() + len(self.bases)
        return found

    def _keep(self, site: str, x: Tensor) -> None:
        # Copied: some models add to it in place later.
        self.kept[site] = x.clone() if torch.is_grad_enabled() else x.detach().clone()


def is_path(site: str) -> bool:
    """Whether it is a module path, whose tensor may have any first axis."""
    return layer_of(site) is None and site not in ("norm", "logits")


def require_rows(site: str, x: Tensor, rows: int) -> None:
    """Refuse a tensor whose first axis is not the rows of the batch.

    Raises:
        ValueError: it is something else, such as all tokens in one axis.
    """
    if not x.ndim or len(x) != rows:
        raise ValueError(
            f"{site!r} holds {list(x.shape)}: its first axis is not the {rows} rows of the batch, so "
            "what-ifs cannot be told apart there; name a site of the block, or use edit() for one"
        )


def _inverse(here: Tensor, count: int) -> Tensor:
    """For each of `count` rows its place among those that are here; -1 for the others."""
    found = torch.full((count,), -1)
    found[here] = torch.arange(len(here))
    return found
