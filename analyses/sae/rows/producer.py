"""A model that runs over a corpus again and again on a thread of its own, a little ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from layerscope.analyses.sae.rows.source import refuse_broken
from layerscope.hooks.edits import active
from layerscope.hooks.extracting.feeds import Feed, Shard, Step, TextShard
from layerscope.hooks.extracting.filling import running
from layerscope.hooks.extracting.sample_feed import SampleStep
from layerscope.hooks.quiet import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD = 8
"""Batches of the model that wait to be used."""


_TURNS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


def turn(model: nn.Module) -> threading.RLock:
    """What whoever runs this model in the background holds: hooks would see each other's batches."""
    return _TURNS.setdefault(model, threading.RLock())


class Place(NamedTuple):
    """Where in the endless corpus a step stands."""

    passes: int = 0
    shard: int = 0
    step: int = 0


@dataclass(frozen=True)
class Chunk:
    """What one forward pass gave."""

    place: Place
    rows: tuple[Tensor, ...]
    """[n, width] of each site, in the dtype that a store would hold."""
    groups: Tensor
    """[n], the number of each row's text."""


class Producer:
    """Runs `model` over `feed` from `place` on, without end; `take` gives what it found, in order.

    The model is hooked, and in eval mode, only while a batch runs: not while the producer waits for
    room, not inside `paused`, and not after `stop` or an error.
    """

    def __init__(
        self,
        model: nn.Module,
        feed: Feed,
        sites: Sequence[str],
        dtype: torch.dtype,
        plan: Mapping[str, int],
        place: Place,
    ) -> None:
        self._model, self._feed, self._sites = model, feed, list(sites)
        self._dtype, self._plan, self._place = dtype, plan, place
        self._ready: deque[Chunk] = deque()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._turn = turn(model)
        self._stopped = self._halted = False
        self._thread = threading.Thread(target=self._run, name="sae-rows", daemon=True)
        self._thread.start()

    # For whoever uses the rows

    def take(self) -> Chunk:
        """The next chunk; waits for it.

        Raises:
            RuntimeError: inside `paused`, where it would wait for ever, or after `stop`.
            Exception: what ended the producer.
        """
        with self._changed:
            while not self._ready:
                if self._error is not None:
                    raise self._error
                if self._halted or self._stopped:
                    what = "closed" if self._stopped else "paused"
                    raise RuntimeError(f"the model is {what}: no new rows come from it")
                self._changed.wait()
            chunk = self._ready.popleft()
            self._changed.notify_all()
            return chunk

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The model is at rest and untouched inside, whatever other producers it has."""
        with self._changed:
            self._halted = True
            self._changed.notify_all()
        try:
            with self._turn:
                yield
        finally:
            with self._changed:
                self._halted = False
                self._changed.notify_all()

    def stop(self) -> None:
        """End the thread, and wait until it has left the model."""
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    # On the thread

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001  raised again by `take`, where it is seen
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _produce(self) -> None:
        steps = self._steps()
        step = next(steps, None)
        while step is not None and self._wait_for_turn():
            with self._at_the_model() as rows_of:
                # Hooks stay for as many batches as there is room for.
                while step is not None and self._room():
                    self._put(rows_of(*step))
                    step = next(steps, None)

    def _wait_for_turn(self) -> bool:
        """Wait for room and for the model; False once stopped."""
        with self._changed:
            while not self._stopped and not self._room():
                self._changed.wait()
        while not self._turn.acquire(timeout=0.05):
            if self._stopped:
                return False
        if self._stopped:
            self._turn.release()
        return not self._stopped

    def _room(self) -> bool:
        return len(self._ready) < AHEAD and not (self._halted or self._stopped)

    def _put(self, chunk: Chunk) -> None:
        with self._changed:
            self._ready.append(chunk)
            self._changed.notify_all()

    @contextmanager
    def _at_the_model(self) -> Iterator[Callable[[Place, Step, Shard], Chunk]]:
        """Hooked; whoever enters has the turn, which ends with the block."""
        with ExitStack() as stack:
            stack.callback(self._turn.release)
            stack.enter_context(evaluating(self._model))
            stack.enter_context(torch.inference_mode())
            run = stack.enter_context(running(self._model, self._sites))

            def rows_of(place: Place, step: Step, shard: Shard) -> Chunk:
                _refuse_edited(self._model)
                seen: dict[str, Tensor] = {}
                run(step, lambda site, x: seen.update({site: x.to(self._dtype, copy=True)}))
                return self._chunk(place, step, shard, seen)

            yield rows_of

    def _chunk(self, place: Place, step: Step, shard: Shard, seen: Mapping[str, Tensor]) -> Chunk:
        for site, rows in seen.items():
            refuse_broken(site, rows, lambda i: shard.describe(int(step.place[i])))
        return Chunk(
            place,
            tuple(seen[site] for site in self._sites),
            _groups(shard, step),
        )

    def _steps(self) -> Iterator[tuple[Place, Step, Shard]]:
        """Every batch from the starting place on; what lies before it is not even tokenised."""
        start = self._place
        passes = start.passes
        while True:
            for number, (_, prepare) in enumerate(self._feed.shards(self._plan)):
                if (passes, number) < start[:2]:
                    continue
                shard = prepare()
                for place, step in enumerate(shard.steps(self._plan["batch"])):
                    here = Place(passes, number, place)
                    if here >= start:
                        yield here, step, shard
            passes += 1


def _groups(shard: Shard, step: Step) -> Tensor:
    """The number of the text (or sample) of each row of a step."""
    if isinstance(shard, TextShard):
        texts = shard.chunk.texts
        numbers = torch.tensor([text.columns["text"][0] if text.rows else -1 for text in texts])
        starts = torch.from_numpy(shard.chunk.first_row)
        # Texts without rows begin where the next one does: the last that begins here is meant.
        return numbers[torch.searchsorted(starts, step.place, right=True) - 1]
    assert isinstance(step, SampleStep)
    return torch.from_numpy(step.columns()["sample"])


def _refuse_edited(model: nn.Module) -> None:
    running_edits = active(model)
    if running_edits:
        raise RuntimeError(
            f"an edit is running on the model ({running_edits[0]}) that training rows come from; "
            "edit it inside `with rows.paused():`"
        )
