"""Attaches changes to a model: what it computes at a site is replaced while it runs.

Nothing is written in place. A site that is a module's input or output is replaced there. A site
that is a difference moves the state after it by the same amount. A state of the residual stream
that is only seen on its way into a norm (`resid_mid` of most models) is replaced for that norm, and
what comes after it in the stream is moved by the same amount.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.attending.attention_writing import AttentionWriter
from layerscope.hooks.editing.change import Change
from layerscope.hooks.editing.offsets import Offsets
from layerscope.hooks.editing.positions import highest, is_empty
from layerscope.hooks.editing.spot import axes_of
from layerscope.hooks.editing.writable import Plan, plan
from layerscope.hooks.listening.live import Live, Notes
from layerscope.hooks.listening.passes import ForwardPass, ignored, leading_to, recomputing, trail
from layerscope.hooks.listening.watch import argument
from layerscope.hooks.places import AttentionTap, Tap, module_at, pick, put, put_input
from layerscope.hooks.sites import layer_of

running: list[Writer] = []
"""The writers that are attached now, in order of attaching."""


class Writer:
    """All changes that one block of code makes to one model.

    Args:
        model: Any module. It is left as it was found.
        changes: Canonical site -> changes in order.

    Raises:
        LookupError: a site the model does not have.
        ValueError: a change that cannot be made at its site.
    """

    def __init__(self, model: nn.Module, changes: Mapping[str, Sequence[Change]]) -> None:
        self.model = model
        self.changes = {site: list(some) for site, some in changes.items()}
        self.notes = Notes()
        self.reached: dict[str, int] = {}
        """Site -> how many positions of it the passes had, from 0 on."""
        self.touched: set[Change] = set()
        """Changes that found something to change."""
        self.offsets = Offsets()
        self.passing = ForwardPass(model, self._begin, self.offsets.end)
        self.plan: Plan = plan(model, self.changes)
        self.attention = AttentionWriter(self, self.plan.attention)
        self._held: dict[str, Tensor] = {}
        self._moved: dict[str, Tensor] = {}
        self._reading = ExitStack()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Attached inside the block, gone after it."""
        with ExitStack() as undo:
            undo.callback(self._forget)
            undo.callback(self.offsets.forget)
            paths = {place.path for place in self.plan.sources()}
            modules = [m for path in paths for m in leading_to(self.model, path)]
            self.passing.follow(modules, undo)
            for (path, side), taps in _by_module(self.plan.taps).items():
                self._attach(module_at(self.model, path), side, taps, self._write, undo)
            self.attention.start(undo)
            undo.callback(lambda: self._reading.close())
            running.append(self)
            undo.callback(lambda: running.remove(self))
            # What an earlier writer reads must be what this one leaves behind.
            for writer in running:
                if writer.active_on(self.model):
                    writer._read_anew()
            yield

    def active_on(self, model: nn.Module) -> bool:
        """Whether this writes into `model`, a part of it, or what it is a part of."""
        if model is self.model:
            return True
        mine, theirs = set(self.model.modules()), set(model.modules())
        return self.model in theirs or model in mine

    def applied(self, site: str, x: Tensor, offset: int | None, end: int | None = None) -> Tensor:
        """`x` with all changes of `site` made, in its layout; `end` as in `Change.applied`."""
        for change in self.changes.get(site, ()):
            if change.kind != "cut":
                x = self._one(change, site, x, offset, end)
        return x

    def queries(self, site: str, otherwise: int) -> int:
        """How many positions of `site` this pass computes."""
        length = None if site.startswith("encoder.") else self.offsets.length
        return otherwise if length is None else length

    def offset_of(self, site: str, x: Tensor | None = None) -> int | None:
        """Absolute position of the first one that `site` has in this pass."""
        if site.startswith("encoder."):
            return 0
        offset, length = self.offsets.offset, self.offsets.length
        if offset is None or length is None or x is None or site not in self.plan.late:
            return offset
        return offset + max(0, length - x.shape[1]) if x.ndim > 2 else offset

    def end_of(self, site: str) -> int | None:
        """Where the prompt ends, if this pass has it and does not itself end there."""
        here = self.offsets
        if here.offset != 0 or site.startswith("encoder."):
            return None
        return here.prompt if here.prompt != here.length or site in self.plan.late else None

    def unreached(self) -> list[str]:
        """For each site that no pass reached: what did run on the way to it."""
        return [
            f"{site!r} ({self._trail(site)})" for site in self.changes if site not in self.reached
        ]

    def untouched(self) -> list[str]:
        """For each change that was never made: which, and what positions the passes had."""
        return [
            f"{change!r} at {site!r}, where the passes had {_span(count)}"
            for site, count in self.reached.items()
            for change in self.changes[site]
            if change not in self.touched
            and not any(map(is_empty, (change.at, change.rows, change.heads, change.keys)))
        ]

    def unfinished(self) -> list[str]:
        """For each change that was made at some positions, and asks for others that never came."""
        return [
            f"{change!r} at {site!r}, where the passes had {_span(count)}"
            for site, count in self.reached.items()
            for change in self.changes[site]
            if change in self.touched and max(highest(change.at), highest(change.keys)) >= count
        ]

    def _one(
        self, change: Change, site: str, x: Tensor, offset: int | None, end: int | None
    ) -> Tensor:
        self.check_known(change, site, offset)
        axis = axes_of(site, x).positions
        length = 1 if axis is None else x.shape[axis]
        self.saw(site, (offset or 0) + length)
        before = None if self.plan.before.get(site) is None else self._held[self.plan.before[site]]
        real = self.offsets.padding(site, x.shape[0], length)
        new = change.applied(x, site, offset=offset or 0, before=before, real=real, end=end)
        if new is not x:
            self.touched.add(change)
        return new

    def check_known(self, change: Change, site: str, offset: int | None) -> None:
        """Refuse chosen positions in a pass of which nobody knows where it begins."""
        if offset is None and change.at is not None:
            raise ValueError(
                f"{change!r} at {site!r}: this pass continues a recurrent cache that was filled "
                "outside the edit, so its positions are not known; run the prompt inside the "
                "edit as well, or leave out at="
            )

    def saw(self, site: str, count: int) -> None:
        """`site` was reached, with positions up to `count`."""
        self.reached[site] = max(self.reached.get(site, 0), count)

    def _begin(self) -> None:
        self._held.clear()
        self._moved.clear()
        self.offsets.begin(*self.passing.given)
        if torch.is_grad_enabled() and any(
            getattr(m, "gradient_checkpointing", False) and m.training for m in self.model.modules()
        ):
            raise _checkpointed()

    def _forget(self) -> None:
        self.passing.forget()
        self._held.clear()
        self._moved.clear()

    def _read_anew(self) -> None:
        """Attach what only reads, behind everything that is attached now."""
        self._reading.close()
        for (path, side), taps in _by_module(self.plan.reads).items():
            self._attach(module_at(self.model, path), side, taps, self._hold, self._reading)

    def _attach(
        self,
        module: nn.Module,
        side: str,
        taps: Mapping[str, Tap],
        use: Callable[[str, Live], Tensor | None],
        undo: ExitStack,
    ) -> None:
        # While blocks are replayed, a stand-in may be in the place of the real one.
        module = getattr(module, "_stands_for", module)
        key = (module, side, use.__name__)

        def here() -> Iterable[tuple[str, Tap]]:
            if recomputing():
                raise _checkpointed()
            if ignored():
                return ()
            call = self.passing.number(key)
            return ((site, tap) for site, tap in taps.items() if tap.call == call)

        def entered(module: nn.Module, args: Any, kwargs: Any) -> Any:
            for site, tap in here():
                new = use(site, self._live(site, argument(module, args, kwargs, tap)))
                if new is not None:
                    args, kwargs = put_input(module, args, kwargs, tap, new)
            return args, kwargs

        def returned(module: nn.Module, args: Any, output: Any) -> Any:
            for site, tap in here():
                new = use(site, self._live(site, pick(output, tap.item)))
                if new is not None:
                    self._note_loss(site, output)
                    output = put(output, tap.item, new)
            return output

        if side == "in":
            undo.callback(module.register_forward_pre_hook(entered, with_kwargs=True).remove)
        else:
            undo.callback(module.register_forward_hook(returned).remove)

    def _hold(self, site: str, live: Live) -> None:
        self._held[site] = live.value.clone()  # the block may add to it in place

    def _write(self, site: str, live: Live) -> Tensor | None:
        """What takes the place of a tensor, in the model's layout; None leaves it."""
        x = old = live.value
        offset = self.offset_of(site, x)
        if site in self._moved:
            x = x + self._moved.pop(site).to(x)
        natural = x
        for name, before in self.plan.differences.get(site, {}).items():
            part = x - sum(self._held[b].to(x.device) for b in before)
            new = self.applied(name, part, offset, self.end_of(name))
            x = x if new is part else x + (new - part)
        x = self.applied(site, x, offset, self.end_of(site))
        if x is not natural:
            for later, factor in self.plan.carried.get(site, {}).items():
                delta = (x - natural) * factor
                self._moved[later] = self._moved[later] + delta if later in self._moved else delta
        return None if x is old else live.restore(x)

    def _live(self, site: str, tensor: Tensor) -> Live:
        """`tensor` in the layout of `site`: some models (OPT) merge batch and positions inside."""
        if tensor.ndim != 2 or layer_of(site) is None:
            return Live(tensor)
        axes = self.passing.batch_and_positions(len(tensor))
        if axes is None and self.offsets.length and self.plan.in_blocks.get(site) == 3:
            axes = (len(tensor) // self.offsets.length, self.offsets.length)
        if axes is None or axes[0] * axes[1] != len(tensor):
            return Live(tensor)
        return Live(tensor, lambda x: x.unflatten(0, axes), lambda x: x.flatten(0, 1))

    def _note_loss(self, site: str, output: Any) -> None:
        if site == "logits" and getattr(output, "loss", None) is not None:
            self.notes.add("the model's loss was computed before its logits were changed")

    def _trail(self, site: str) -> str:
        place = self.plan.place(site)
        missing = self.attention.missing(place) if isinstance(place, AttentionTap) else ""
        return missing or trail(self.model, place, self.passing)


def _by_module(taps: Mapping[str, Tap]) -> dict[tuple[str, str], dict[str, Tap]]:
    found: dict[tuple[str, str], dict[str, Tap]] = defaultdict(dict)
    for site, tap in taps.items():
        found[tap.path, tap.side][site] = tap
    return found


def _span(count: int) -> str:
    return f"positions 0 to {count - 1}" if count > 1 else "position 0"


def _checkpointed() -> ValueError:
    return ValueError(
        "the model uses gradient checkpointing, which runs its blocks once more after the edit is "
        "over; call model.gradient_checkpointing_disable(), or run under torch.no_grad()"
    )
