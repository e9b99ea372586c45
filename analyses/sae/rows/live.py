"""Rows of a running model: once per token for all sites, shuffled in a reservoir."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.analyses.sae.rows import mixing
from layerscope.analyses.sae.rows.held import HeldRows
from layerscope.analyses.sae.rows.producer import Chunk, Place, Producer, turn
from layerscope.analyses.sae.rows.reservoir import Reservoir
from layerscope.analyses.sae.rows.source import Rows, refuse_short
from layerscope.hooks.edits import active
from layerscope.hooks.extract import SHARD_BYTES
from layerscope.hooks.extracting.feeds import feed_of
from layerscope.hooks.extracting.filling import running
from layerscope.hooks.load import device_of, dtype_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.sites import resolve
from layerscope.store import identity_of, key_of

SLOTS = 1 << 19
"""Rows of a reservoir, unless that takes more than SLOT_BYTES."""
SLOT_BYTES = 2 << 30
STORED = (torch.float32, torch.bfloat16, torch.float16)


class LiveRows(Rows):
    """What a model holds at `sites` while it runs over a corpus, as a source of training rows.

    The model runs once per token for all sites, stops after the last of them, and works on a thread
    of its own, a few batches ahead. It is hooked only while a batch runs; to run or edit it
    meanwhile, do so inside `paused`. Texts come in the order of the corpus, again and again; a
    reservoir mixes their rows. Where one pass fits into the reservoir, the model runs for that
    pass alone: from then on every pass is a uniform permutation of the rows held.

    Args:
        model: Any module; it comes back as it was, also after an error.
        corpus: What `read` takes.
        sites: Names, or layers as ints.
        tokenizer: Object or path; None takes the one at ``model.name_or_path``.
        rows: What makes a row, as for `extract`; None is every token, or the mean of a sample.
        device: Where batches are wanted; None is the model's own.
        reservoir_rows: How many rows the reservoir holds; None takes half a million, or what 2 GiB
            hold.

    Raises:
        LookupError: a site that the model does not have.
        ValueError: an edit is running on the model, or a corpus that makes no rows.
    """

    def __init__(
        self,
        model: nn.Module,
        corpus: Any,
        sites: Sequence[str | int],
        *,
        tokenizer: Any = None,
        rows: str | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        reservoir_rows: int | None = None,
    ) -> None:
        _refuse_edited(model)
        self.sites = _in_order(model, sites)
        self._model, self.seed = model, seed
        self.device = device_of(model) if device is None else torch.device(device)
        self._feed = feed_of(
            model,
            corpus,
            self.sites,
            rows=rows,
            tokenizer=tokenizer,
            special_tokens=False,
            too_long="truncate",
        )
        self.about = {"model": title(model), "data": self._feed.name, "store_key": ""}
        own = dtype_of(model)
        self._dtype = own if own in STORED else torch.float32
        self.widths, first = self._measured()
        # As `extract` plans a store of these sites, so that batches, and thus rows, are bit by bit its.
        kind = device_of(model).type
        room = SHARD_BYTES.get(kind, SHARD_BYTES["cuda"]) / self._row_bytes
        self._plan = self._feed.plan(room, first, kind)
        self.slots = self._slots(reservoir_rows)
        self.reserved = self.slots * self._row_bytes
        self._reservoir: Reservoir | None = None
        self._held: HeldRows | None = None
        self._producer: Producer | None = None
        self._end: Callable[[], object] | None = None
        self._per_pass: int | None = None
        self._chunk: Chunk | None = None
        self._forget()

    # What every source has

    @property
    def per_pass(self) -> int | None:
        """Rows of one pass over the corpus; None until one was seen to its end."""
        return self._per_pass

    @cached_property
    def identity(self) -> str:
        """A hash of the model's weights, the texts, the rule for rows, and the reservoir's size."""
        parts = {"model": identity_of(self._model), "slots": self.slots, "dtype": str(self._dtype)}
        return key_of(parts | self._feed.identity)

    def next(self, size: int) -> tuple[Tensor, ...]:
        if self._begin() is not None:
            return self._begun_held().next(size)
        reservoir = self._full()
        refuse_short(f"the reservoir of {', '.join(self.sites)}", reservoir.slots, size)
        drawn, _ = reservoir.swap(*self._fresh(size))
        return tuple(rows.to(self.device).float() for rows in drawn)

    def state(self) -> dict[str, Tensor]:
        if self._begin() is not None:
            return self._begun_held().state()
        known = -1 if self._per_pass is None else self._per_pass
        place = torch.tensor([*self._place, self._used, self._seen, known])
        return {"live": place, **self._full().state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.close()
        self._forget()
        if "live" not in state:
            self._begin()
            self._begun_held().restore(state)
            return
        passes, shard, step, used, seen, known = state["live"].tolist()
        self._reservoir = self._empty()
        self._reservoir.restore(state)
        self._start(Place(passes, shard, step))
        self._take()
        self._used, self._seen = used, seen
        self._per_pass = None if known < 0 else known

    def sample(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        if self._begin() is not None:
            return self._begun_held().sample(count, seed)
        held = HeldRows(dict(zip(self.sites, self._full().rows, strict=True)))
        return tuple(rows.to(self.device) for rows in held.sample(count, seed))

    def effective_groups(self, size: int) -> float:
        if self._begin() is not None:
            return self._begun_held().effective_groups(size)
        # Any two slots are equally likely to be drawn together: all pairs are the exact answer.
        return mixing.effective_groups([self._full().groups.numpy()])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The model is at rest and without hooks inside; `next` must not be called there."""
        if self._producer is None:
            yield
            return
        with self._producer.paused():
            yield

    def close(self) -> None:
        """End the thread; the model is then as it was. `next` begins anew from where it stood."""
        end, self._end, self._producer = self._end, None, None
        if end is not None:
            end()

    # How

    def _forget(self) -> None:
        self._reservoir = self._held = self._chunk = self._per_pass = None
        self._place, self._used, self._seen = Place(), 0, 0

    def _begin(self) -> HeldRows | None:
        """Fill the reservoir once; the rows of the whole corpus where they fit into it."""
        if self._held is None and self._reservoir is None:
            self._start(Place())
            self._reservoir = self._empty()
            self._fill(self._reservoir)
        elif self._held is None and self._producer is None:
            self._go_on()
        return self._held

    def _fill(self, reservoir: Reservoir) -> None:
        while reservoir.filled < reservoir.slots:
            chunk = self._take() if self._chunk is None or not self._left else self._chunk
            if chunk.place.passes:
                self._hold(reservoir)
                return
            self._used += reservoir.fill(
                [rows[self._used :] for rows in chunk.rows], chunk.groups[self._used :]
            )

    def _hold(self, reservoir: Reservoir) -> None:
        """The pass ended before the reservoir was full: the model is not needed any more."""
        self.close()
        rows = dict(zip(self.sites, (rows.clone() for rows in reservoir.rows), strict=True))
        groups = reservoir.groups.numpy().copy()
        self._held = HeldRows(rows, seed=self.seed, groups=groups, device=self.device)
        self._per_pass = self._held.per_pass
        self._reservoir = self._chunk = None

    def _fresh(self, size: int) -> tuple[list[Tensor], Tensor]:
        """The next `size` rows in the order in which the model gives them."""
        pieces: list[tuple[tuple[Tensor, ...], Tensor]] = []
        missing = size
        while missing:
            chunk = self._take() if self._chunk is None or not self._left else self._chunk
            part = slice(self._used, self._used + min(missing, self._left))
            pieces.append((tuple(rows[part] for rows in chunk.rows), chunk.groups[part]))
            self._used = part.stop
            missing -= len(pieces[-1][1])
        rows = [torch.cat(parts) for parts in zip(*(piece[0] for piece in pieces), strict=True)]
        return rows, torch.cat([piece[1] for piece in pieces])

    @property
    def _left(self) -> int:
        return 0 if self._chunk is None else len(self._chunk.groups) - self._used

    def _take(self) -> Chunk:
        assert self._producer is not None
        chunk = self._producer.take()
        if chunk.place.passes and not self._place.passes and self._per_pass is None:
            self._per_pass = self._seen
        self._seen += len(chunk.groups)
        self._chunk, self._place, self._used = chunk, chunk.place, 0
        return chunk

    def _start(self, place: Place) -> None:
        _refuse_edited(self._model)
        self._producer = Producer(
            self._model, self._feed, self.sites, self._dtype, self._plan, place
        )
        # A source that nobody closes ends its thread when it is collected, or at exit.
        self._end = weakref.finalize(self, Producer.stop, self._producer)

    def _go_on(self) -> None:
        """After `close`: run again what was read ahead but not used."""
        used, seen = self._used, self._seen
        self._start(self._place)
        self._take()
        self._used, self._seen = used, seen

    def _empty(self) -> Reservoir:
        dtypes = [self._dtype] * len(self.sites)
        return Reservoir(self.slots, self.widths, dtypes, seed=self.seed, device=self.device)

    def _full(self) -> Reservoir:
        assert self._reservoir is not None
        return self._reservoir

    def _begun_held(self) -> HeldRows:
        if self._held is None:
            raise ValueError(
                f"the state is of a corpus that fits into the reservoir, this one ({self.slots:,} "
                "rows) is smaller than the corpus; build it with the same corpus and reservoir_rows"
            )
        return self._held

    def _measured(self) -> tuple[tuple[int, ...], int]:
        """Width of each site, and how many rows the first text makes; from one forward pass."""
        seen: dict[str, tuple[int, int]] = {}
        step = self._feed.first()
        with (
            turn(self._model),
            evaluating(self._model),
            torch.inference_mode(),
            running(self._model, list(self.sites)) as run,
        ):
            run(step, lambda site, x: seen.update({site: (x.shape[0], x.shape[1])}))
        return tuple(seen[site][1] for site in self.sites), max(n for n, _ in seen.values())

    def _slots(self, asked: int | None) -> int:
        if asked is not None:
            if asked < 1:
                raise ValueError(f"a reservoir has at least 1 row, not {asked}")
            return asked
        return max(1, min(SLOTS, SLOT_BYTES // self._row_bytes))

    @property
    def _row_bytes(self) -> int:
        return sum(self.widths) * self._dtype.itemsize


def _in_order(model: nn.Module, sites: Sequence[str | int]) -> tuple[str, ...]:
    """The names of the sites in the order they were asked for."""
    names: list[str] = []
    for site in sites:
        names += [name for name in resolve(model, site) if name not in names]
    return tuple(names)


def _refuse_edited(model: nn.Module) -> None:
    edits = active(model)
    if edits:
        raise ValueError(
            f"an edit is running on the model ({edits[0]}), and rows are to be those of the model "
            "without it; begin outside the edit"
        )
