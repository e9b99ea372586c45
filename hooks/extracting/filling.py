"""One process at work on a store: run the batches, put rows in place, write shards.

One shard is written while the next is computed. On CUDA, rows are put in place on the device and
return to pinned memory on a side stream, so that neither the copy nor the disk is waited for.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.extracting.feeds import Feed, Shard, Step
from layerscope.hooks.extracting.gather import send
from layerscope.hooks.listening.watch import StopForward, watch
from layerscope.hooks.load import device_of, dtype_of
from layerscope.store import Store

See = Callable[[str, Tensor], None]


@contextmanager
def running(model: nn.Module, sites: Sequence[str]) -> Iterator[Callable[[Step, See], None]]:
    """Attach once, then run steps: `run(step, see)` calls `see(site, rows)` for each site."""
    device, dtype = device_of(model), dtype_of(model)
    current: list[tuple[Step, See]] = []
    missing: set[str] = set()

    def collect(site: str, x: Tensor) -> None:
        step, see = current[-1]
        missing.discard(site)
        see(site, step.rows(site, x))

    def run(step: Step, see: See) -> None:
        args, kwargs = step.inputs(device, dtype)
        current[:] = [(step, see)]
        missing.update(sites)
        with suppress(StopForward):
            try:
                model(*args, **kwargs)
            except TypeError as error:
                if "forward() " not in str(error):  # not of the call: an error inside the model
                    raise
                raise _misfit(model, args, kwargs, error) from error
        if missing:
            raise LookupError(
                f"the model ran, but never reached {', '.join(sorted(missing))}; leave that out of "
                "the layers, or give data that take this way through the model"
            )

    with watch(model, sites, collect, stop=True):
        yield run


@dataclass(frozen=True)
class _Turn:
    """A shard that is this process's to compute."""

    index: int
    size: int
    """Texts or samples in it."""
    shard: Future[Shard]
    claim: ExitStack


class Filling:
    """One process at work on a store."""

    def __init__(self, model: nn.Module, feed: Feed, store: Store, progress: bool) -> None:
        self.model, self.feed, self.store, self.progress = model, feed, store, progress
        self.device = device_of(model)
        self.batch: int = store.about["plan"]["batch"]
        self.notes: list[str] = []

    def run(self) -> None:
        """Fill what is missing; shards that another process holds are awaited at the end.

        Raises:
            KeyboardInterrupt: it was stopped; says how much is kept.
        """
        try:
            shards = self._fill()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_stopped(self.store)) from None
        self.store.finish(shards, self._all_notes())

    def _fill(self) -> int:
        from tqdm.auto import tqdm

        with (
            ThreadPoolExecutor(1) as self.reader,
            ThreadPoolExecutor(1) as self.writer,
            running(self.model, list(self.store.sites)) as self.forward,
            tqdm(
                total=len(self.feed), desc="extract", unit=self.feed.unit, disable=not self.progress
            ) as bar,
        ):
            bar.set_description(f"extract {self.feed.name}")
            while True:
                shards, busy = self._pass(bar)
                if not busy:
                    return shards
                bar.set_postfix_str(f"waiting for {busy} shards of another process")
                time.sleep(0.5)

    def _pass(self, bar: Any) -> tuple[int, int]:
        """Go once over all shards. Returns how many there are, and how many others hold.

        A shard is tokenised while the one before it is computed and the one before that written.
        """
        bar.reset()
        self.written: Future[None] | None = None
        index, busy = -1, 0
        turn: _Turn | None = None
        with ExitStack() as claims:
            for index, (size, prepare) in enumerate(self.feed.shards(self.store.about["plan"])):
                claim = ExitStack()
                claims.callback(claim.close)
                if self.store.has(index) or not claim.enter_context(self.store.claim(index)):
                    busy += not self.store.has(index)
                    bar.update(size)
                    continue
                following = _Turn(index, size, self.reader.submit(prepare), claim)
                if turn is not None:
                    self._take(turn, bar)
                turn = following
            if turn is not None:
                self._take(turn, bar)
            if self.written is not None:
                self.written.result()
        return index + 1, busy

    def _take(self, turn: _Turn, bar: Any) -> None:
        """Compute one shard, and hand it to the writer once it is done with the one before."""
        shard = turn.shard.result()
        tensors, ready = self._compute(shard)
        if self.written is not None:
            self.written.result()
        self.written = self.writer.submit(self._write, turn, shard, tensors, ready)
        bar.update(turn.size)

    def _compute(self, shard: Shard) -> tuple[dict[str, Tensor], Any]:
        buffers = {
            name: torch.empty(shard.rows, spec.width, dtype=spec.dtype, device=self.device)
            for name, spec in self.store.sites.items()
        }
        budget = self.batch
        for step in shard.steps(budget):
            self._step(step, buffers, budget)
        return _to_host(buffers)

    def _step(self, step: Step, buffers: dict[str, Tensor], budget: int) -> None:
        """One batch into its places; out of memory, it is halved and goes on."""
        place = send(step.place, self.device)

        def keep(site: str, rows: Tensor) -> None:
            into = buffers[site]
            into.index_copy_(0, place, rows.to(into.device, into.dtype, non_blocking=True))

        try:
            self.forward(step, keep)
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            halves = step.halves()
            if halves is None:
                raise too_big(self.feed.unit) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._shrink(max(1, budget // 2))
        for half in halves:
            self._step(half, buffers, max(1, budget // 2))

    def _shrink(self, budget: int) -> None:
        if budget >= self.batch:
            return
        self.batch = budget
        note = f"ran out of memory; batches were halved to {self.batch}"
        warnings.warn(note, stacklevel=2)
        self.notes.append(note)

    def _write(self, turn: _Turn, shard: Shard, tensors: dict[str, Tensor], ready: Any) -> None:
        with turn.claim:
            if ready is not None:
                ready.synchronize()
            for site, rows in tensors.items():
                refuse_broken(site, rows, shard)
            self.store.write(turn.index, tensors, shard.table(), shard.info)

    def _all_notes(self) -> list[str]:
        return [*self.feed.notes(self.store.info), *dict.fromkeys(self.notes)]


def _misfit(model: nn.Module, args: Any, kwargs: Any, error: TypeError) -> TypeError:
    """The error of a call that the model does not take; labels among the inputs are the usual one."""
    given = ", ".join(
        [*(["1 tensor" if len(args) == 1 else f"{len(args)} tensors"] if args else []), *kwargs]
    )
    return TypeError(
        f"{type(model).__name__} was called with {given}: {error}. Labels are no inputs: "
        "Samples(inputs, labels={'name': values})"
    )


def _stopped(store: Store) -> str:
    kept = sum(1 for _ in Path(store.path, "shards").glob("[0-9]*.safetensors"))
    if not kept:
        return "stopped before the first shard was whole; the same again starts over"
    shards = "1 shard is" if kept == 1 else f"{kept:,} shards are"
    return (
        f"stopped; {shards} whole and kept in {store.path}, and the same again goes on after them"
    )


def refuse_broken(site: str, rows: Tensor, shard: Shard) -> None:
    """Raise ValueError where `rows` are NaN or infinite, with the place of the first."""
    # The sum of finite activations is finite (in float32, short of 3e38): one pass, no mask.
    if torch.isfinite(rows.sum(dtype=torch.float32)):
        return
    bad = (~torch.isfinite(rows)).any(1).nonzero()
    if len(bad):
        row = int(bad[0])
        kind = "NaN" if rows[row].isnan().any() else "infinite"
        raise ValueError(
            f"{site} is {kind} at {shard.describe(row)} ({len(bad)} such rows in this shard); the "
            "model's weights, dtype or input are broken there. Nothing of this shard was written"
        )


def _to_host(buffers: dict[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
    """The buffers in host memory; from CUDA on a side stream, with the event to wait for."""
    if all(rows.device.type == "cpu" for rows in buffers.values()):
        return buffers, None
    stream = _side_stream(next(iter(buffers.values())).device)
    stream.wait_stream(torch.cuda.current_stream())
    host = {}
    with torch.cuda.stream(stream):
        for site, rows in buffers.items():
            host[site] = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            host[site].copy_(rows, non_blocking=True)
            rows.record_stream(stream)
        ready = torch.cuda.Event()
        ready.record(stream)
    return host, ready


_STREAMS: dict[torch.device, Any] = {}


def _side_stream(device: torch.device) -> Any:
    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device)
    return _STREAMS[device]


def too_big(unit: str) -> RuntimeError:
    return RuntimeError(
        f"out of memory with a single {unit} in the batch; use a shorter context, a smaller "
        "dtype, or fewer layers"
    )


def out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
