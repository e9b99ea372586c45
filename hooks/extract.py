"""Model and corpus to a store: every wanted activation, computed once.

The forward pass stops after the last wanted site, pads are dropped before anything is stored, and
one shard is written while the next is computed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.hooks.feeds import Feed, Shard, Step, feed_of
from layerscope.hooks.load import device_of, dtype_of, parameter_count
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.sites import resolve
from layerscope.hooks.watch import StopForward, watch
from layerscope.store import Store, default_folder, identity_of, key_of

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD_BYTES = {"cpu": 48 << 20, "cuda": 512 << 20}
See = Callable[[str, Tensor], None]


def extract(
    model: nn.Module,
    corpus: Corpus | Samples | Any,
    layers: int | str | Sequence[int | str] = "all",
    *,
    rows: str | None = None,
    tokenizer: Any = None,
    dtype: str | torch.dtype | None = None,
    to: str | Path | None = None,
    special_tokens: bool = False,
    too_long: str = "truncate",
    batch_tokens: int | None = None,
    progress: bool = True,
) -> Store:
    """Run `model` over `corpus` and keep what `layers` hold; what is already on disk stays.

    Interrupted at any moment, even killed, the next call goes on with the missing shards. Called
    again with nothing changed, it returns the finished store at once. Two processes may fill one
    store together.

    Args:
        model: Any module; it comes back in the mode it was in.
        corpus: What `read` returns, or what `read` accepts.
        layers: An int (``3`` is ``blocks.3.resid_post``), a site, a pattern, a list of these, a
            module path, or ``"all"`` (every ``resid_post``).
        rows: For texts ``"tokens"`` (default), ``"words"`` (mean over the pieces of each labelled
            word), ``"texts:mean"``, ``"texts:last"`` or ``"texts:first"``. For samples ``"mean"``
            over positions (default), ``"flatten"`` or ``"positions"``.
        tokenizer: Object or path; None takes the one at ``model.name_or_path``.
        dtype: Of the stored numbers: float32, bfloat16 or float16; None keeps the model's own.
        to: Folder of the store; None puts it into the user's cache under its key.
        special_tokens: Whether BOS, SEP and the like make rows.
        too_long: ``"truncate"`` cuts texts at the model's context and counts them in the notes,
            ``"refuse"`` raises instead.
        batch_tokens: Padded tokens of one batch (for samples: samples); None chooses by device.
        progress: Whether to show a bar.

    Returns:
        The finished store, its rows in the order of the corpus.

    Raises:
        LookupError: a site that the model does not have.
        ValueError: no texts, a text too long with ``too_long="refuse"``, activations that are NaN
            or infinite (named with site and row), or options that do not fit the corpus.
        StoreMismatch: `to` holds another extraction.
    """
    sites = resolve(model, layers)
    feed = feed_of(
        model,
        corpus,
        sites,
        rows=rows,
        tokenizer=tokenizer,
        special_tokens=special_tokens,
        too_long=too_long,
    )
    kept = _dtype(dtype, model)
    parts = {
        "model": identity_of(model),
        **feed.identity,
        "sites": list(sites),
        "dtype": str(kept).removeprefix("torch."),
    }
    folder = default_folder(key_of(parts)) if to is None else Path(to)
    with evaluating(model), torch.inference_mode():
        store = _open(model, feed, sites, kept, parts, folder, batch_tokens)
        if not store.complete:
            _Filling(model, feed, store, progress).run()
    return store


def _dtype(asked: str | torch.dtype | None, model: nn.Module) -> torch.dtype:
    if isinstance(asked, str):
        asked = DTYPES.get(asked.removeprefix("torch."), asked)
    if asked is None:
        own = dtype_of(model)
        asked = own if own in DTYPES.values() else torch.float32
    if asked not in DTYPES.values():
        raise ValueError(f"dtype {asked!r}: a store holds {', '.join(DTYPES)}")
    return asked  # type: ignore[return-value]


def _open(
    model: nn.Module,
    feed: Feed,
    sites: Sequence[str],
    dtype: torch.dtype,
    parts: dict[str, Any],
    folder: Path,
    batch_tokens: int | None,
) -> Store:
    """The store in `folder`, with its plan; a new one is planned by running one text."""
    if (folder / "store.json").is_file():
        old = Store.open(folder)
        widths = {name: spec.width for name, spec in old.sites.items()}
        return Store.create(folder, parts, sites=widths, dtype=dtype, about=old.about)
    device = device_of(model).type
    first = feed.first()
    seen: dict[str, tuple[int, int]] = {}
    try:
        with _running(model, sites) as run:
            run(first, lambda site, x: seen.update({site: (x.shape[0], x.shape[1])}))
    except RuntimeError as error:
        raise (_too_big(feed.unit) if _out_of_memory(error) else error) from error
    widths = {site: seen[site][1] for site in sites}
    row_bytes = sum(widths.values()) * dtype.itemsize
    room = SHARD_BYTES.get(device, SHARD_BYTES["cuda"]) / row_bytes
    plan = feed.plan(room, max(n for n, _ in seen.values()), device)
    if batch_tokens is not None:
        plan["batch"] = batch_tokens
    about = {
        "model": getattr(model, "name_or_path", "") or type(model).__name__,
        "parameters": parameter_count(model),
        "corpus": feed.name,
        "plan": plan,
    }
    return Store.create(folder, parts, sites=widths, dtype=dtype, about=about)


@contextmanager
def _running(model: nn.Module, sites: Sequence[str]) -> Iterator[Callable[[Step, See], None]]:
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
            model(*args, **kwargs)
        if missing:
            raise LookupError(f"the model ran, but never reached {', '.join(sorted(missing))}")

    with watch(model, sites, collect, stop=True):
        yield run


class _Filling:
    """One process at work on a store."""

    def __init__(self, model: nn.Module, feed: Feed, store: Store, progress: bool) -> None:
        self.model, self.feed, self.store, self.progress = model, feed, store, progress
        self.device = device_of(model)
        self.batch: int = store.about["plan"]["batch"]
        self.notes: list[str] = []

    def run(self) -> None:
        """Fill what is missing; shards that another process holds are awaited at the end."""
        from tqdm.auto import tqdm

        with (
            ThreadPoolExecutor(1) as writer,
            _running(self.model, list(self.store.sites)) as self.forward,
            tqdm(total=len(self.feed), unit=self.feed.unit, disable=not self.progress) as bar,
        ):
            bar.set_description(f"extract {self.feed.name}")
            while True:
                shards, busy = self._pass(writer, bar)
                if not busy:
                    break
                bar.set_postfix_str(f"waiting for {busy} shards of another process")
                time.sleep(0.5)
        self.store.finish(shards, self._all_notes())

    def _pass(self, writer: ThreadPoolExecutor, bar: Any) -> tuple[int, int]:
        """Go once over all shards. Returns how many there are, and how many others hold."""
        bar.reset()
        index, busy = -1, 0
        pending: Future[None] | None = None
        for index, (size, prepare) in enumerate(self.feed.shards(self.store.about["plan"])):
            with ExitStack() as claim:
                if not self.store.has(index):
                    if claim.enter_context(self.store.claim(index)):
                        if not self.store.has(index):
                            done = self._compute(prepare())
                            if pending is not None:
                                pending.result()
                            pending = writer.submit(self._write, index, done, claim.pop_all())
                    else:
                        busy += 1
            bar.update(size)
        if pending is not None:
            pending.result()
        return index + 1, busy

    def _compute(self, shard: Shard) -> tuple[Shard, dict[str, Tensor], Any]:
        buffers = {
            name: torch.empty(shard.rows, spec.width, dtype=spec.dtype, device=self.device)
            for name, spec in self.store.sites.items()
        }
        for step in shard.steps(self.batch):
            self._step(step, buffers)
        self._refuse_broken(shard, buffers)
        return shard, *_to_host(buffers)

    def _step(self, step: Step, buffers: dict[str, Tensor]) -> None:
        """One batch into its places; out of memory, it is halved and goes on."""
        place = step.place.to(self.device, non_blocking=True)

        def keep(site: str, rows: Tensor) -> None:
            into = buffers[site]
            if rows.device != into.device:
                rows = rows.to(into.device, non_blocking=True)
            into.index_copy_(0, place, rows.to(into.dtype))

        try:
            self.forward(step, keep)
            return
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            halves = step.halves()
            if halves is None:
                raise _too_big(self.feed.unit) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._halve()
        for half in halves:
            self._step(half, buffers)

    def _halve(self) -> None:
        self.batch = max(1, self.batch // 2)
        note = f"ran out of memory; batches were halved to {self.batch}"
        warnings.warn(note, stacklevel=2)
        self.notes.append(note)

    def _refuse_broken(self, shard: Shard, buffers: dict[str, Tensor]) -> None:
        for site, rows in buffers.items():
            # The sum of finite float32 activations is finite; only then look for the place.
            if torch.isfinite(rows.sum(dtype=torch.float64)):
                continue
            bad = (~torch.isfinite(rows)).any(1).nonzero()
            if len(bad):
                row = int(bad[0])
                kind = "NaN" if rows[row].isnan().any() else "infinite"
                raise ValueError(
                    f"{site} is {kind} at {shard.describe(row)} ({len(bad)} such rows in this "
                    "shard); the model's weights, dtype or input are broken there. Nothing of "
                    "this shard was written"
                )

    def _write(
        self, index: int, done: tuple[Shard, dict[str, Tensor], Any], claim: ExitStack
    ) -> None:
        with claim:
            shard, tensors, ready = done
            if ready is not None:
                ready.synchronize()
            self.store.write(index, tensors, shard.table(), shard.info)

    def _all_notes(self) -> list[str]:
        return [*self.feed.notes(self.store.info), *dict.fromkeys(self.notes)]


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


def _too_big(unit: str) -> RuntimeError:
    return RuntimeError(
        f"out of memory with a single {unit} in the batch; use a shorter context, a smaller "
        "dtype, or fewer layers"
    )


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
