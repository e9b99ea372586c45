"""Live tensors at chosen sites, as the model computes them.

`watch` is what `capture` and `extract` stand on. It adds plain forward hooks (and, for `q k v
pattern z`, listens at the attention function), turns residual differences into tensors, and can
leave the forward pass early. Everything is undone when the `with` block ends, however it ends.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn

from layerscope.hooks.attention import AttentionListener
from layerscope.hooks.live import Live
from layerscope.hooks.passes import ForwardPass, leading_to, recomputing
from layerscope.hooks.places import (
    AttentionTap,
    Difference,
    Place,
    Tap,
    module_at,
    pick,
    pick_input,
)
from layerscope.hooks.sites import layer_of, place_of, resolve

Emit = Callable[[str, Tensor, Live], None]


class StopForward(Exception):
    """Leaves the model's forward pass once every wanted site was seen (`stop=True`)."""


@contextmanager
def watch(
    model: nn.Module,
    sites: int | str | Sequence[int | str],
    see: Callable[[str, Tensor], None],
    *,
    stop: bool = False,
) -> Iterator[None]:
    """Call ``see(site, tensor)`` whenever a forward pass inside the block reaches a site.

    The tensor is the live one, not a copy: later layers may still change it in place, so use it at
    once or clone it. Sites that are differences, and attention patterns, are computed on the fly.

    Args:
        model: Any module. It is left as it was found.
        sites: What `resolve` takes: an int, a site, a pattern, a module path, ``"all"``, a list.
        see: Called once per site and forward pass, in the order of computation.
        stop: Raise `StopForward` out of the model's call when the last wanted site was seen.

    Raises:
        LookupError: a site that this model does not have.
    """
    listener = Listener(model, places(model, sites), lambda s, x, _: see(s, x), stop=stop)
    with listener.listening():
        yield


def places(model: nn.Module, sites: int | str | Sequence[int | str]) -> dict[str, Place]:
    """Each site that `sites` stands for, in forward order, and where it is."""
    return {site: place_of(model, site) for site in resolve(model, sites)}


class Listener:
    """Everything that is attached to one model for one set of sites."""

    def __init__(
        self,
        model: nn.Module,
        wanted: Mapping[str, Place],
        emit: Emit,
        *,
        stop: bool = False,
        differentiable: bool = False,
    ) -> None:
        self.model = model
        self.notes: list[str] = []
        self.ledger = Ledger(wanted, emit, stop=stop)
        self.ledger.expand(lambda site: place_of(model, site))
        self.passing = ForwardPass(model, self.ledger.begin)
        self.attention = AttentionListener(
            model,
            {s: p for s, p in self.ledger.sources.items() if isinstance(p, AttentionTap)},
            self.ledger.arrive,
            self.passing,
            self.note,
            differentiable=differentiable,
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Attached inside the block, gone after it."""
        taps: dict[tuple[nn.Module, str], dict[str, Tap]] = defaultdict(dict)
        paths = {place.path for place in self.ledger.sources.values()}
        with ExitStack() as undo:
            undo.callback(self.ledger.begin)
            undo.callback(self.passing.forget)
            modules = [m for path in paths for m in leading_to(self.model, path)]
            self.passing.follow(modules, undo)
            for site, place in self.ledger.sources.items():
                if isinstance(place, Tap):
                    taps[module_at(self.model, place.path), place.side][site] = place
            for (module, side), wanted in taps.items():
                self._attach(module, side, wanted, undo)
            self.attention.start(undo)
            yield

    def note(self, text: str, *, warn: bool = False) -> None:
        """Remember something the user should know about the numbers; once each."""
        if text not in self.notes:
            self.notes.append(text)
            if warn:
                warnings.warn(text, stacklevel=2)

    def unreached(self) -> list[str]:
        """For each site that no pass reached: what did run on the way to it."""
        return [f"{site!r} ({self._trail(site)})" for site in self.ledger.never()]

    def _attach(
        self, module: nn.Module, side: str, taps: Mapping[str, Tap], undo: ExitStack
    ) -> None:
        def entered(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._tapped(module, side, taps, lambda tap: argument(module, args, kwargs, tap))

        def returned(module: nn.Module, args: Any, output: Any) -> None:
            self._tapped(module, side, taps, lambda tap: pick(output, tap.item))

        if side == "in":
            undo.callback(module.register_forward_pre_hook(entered, with_kwargs=True).remove)
        else:
            undo.callback(module.register_forward_hook(returned).remove)

    def _tapped(
        self, module: nn.Module, side: str, taps: Mapping[str, Tap], read: Callable[[Tap], Tensor]
    ) -> None:
        if recomputing():
            return
        call = self.passing.number((module, side))
        for site, tap in taps.items():
            if tap.call == call:
                self.ledger.arrive(site, self._live(site, read(tap)))
            elif call == 1 and all(other.call == 0 for other in taps.values()):
                self.note(f"{tap} runs more than once in a forward pass; {site!r} is its first run")

    def _live(self, site: str, tensor: Tensor) -> Live:
        """`tensor` in the layout of `site`: some models (OPT) merge batch and positions inside."""
        axes = None
        if tensor.ndim == 2 and layer_of(site) is not None:
            axes = self.passing.batch_and_positions(len(tensor))
        return Live(tensor) if axes is None else Live(tensor, lambda x: x.unflatten(0, axes))

    def _trail(self, site: str) -> str:
        place = next(iter(self.ledger.sources_of(site).values()))
        missing = self.attention.missing(place) if isinstance(place, AttentionTap) else ""
        if missing:
            return missing
        names = place.path.split(".") if place.path else []
        ran = [self.passing.entered[module] for module in leading_to(self.model, place.path)]
        if not any(ran):
            return f"{place}: the model was not called inside the with block"
        steps = [
            f"{'.'.join(names[:depth]) or 'the model'} ran {times}x"
            for depth, times in enumerate(ran)
            if times or depth == len(names)
        ]
        return f"{place}: {', '.join(steps[-2:])}"


@dataclass
class Part:
    """One term of a difference, kept until its last user has it."""

    copy: Tensor
    live: Live
    users: int


class Ledger:
    """What a forward pass still owes: takes tensors as they come, emits the wanted sites."""

    def __init__(self, wanted: Mapping[str, Place], emit: Emit, *, stop: bool) -> None:
        self.wanted = dict(wanted)
        self.sources: dict[str, Tap | AttentionTap] = {}
        """Everything to read at the model: the wanted sites and the terms of differences."""
        self.stopped: StopForward | None = None
        """What was raised to leave the pass early."""
        self._emit = emit
        self._stop = stop
        self._terms: dict[str, tuple[str, ...]] = {}
        self._users: dict[str, list[str]] = defaultdict(list)
        self._ever: set[str] = set()
        self.begin()

    def expand(self, place_of: Callable[[str], Place]) -> None:
        """Follow differences down to what can be read at the model."""
        todo = dict(self.wanted)
        while todo:
            site, place = todo.popitem()
            if not isinstance(place, Difference):
                self.sources[site] = place
            elif site not in self._terms:
                self._terms[site] = (place.after, *place.before)
                for term in self._terms[site]:
                    self._users[term].append(site)
                    todo[term] = place_of(term)

    def begin(self) -> None:
        """A new pass: everything is owed again, leftovers of the last one are dropped."""
        self._pending = set(self.wanted)
        self._parts: dict[str, Part] = {}

    def arrive(self, site: str, live: Live) -> None:
        """`site` was computed. Raises `StopForward` when it was the last, if asked."""
        self._deliver(site, live.value, live)
        if self._stop and not self._pending:
            self.stopped = StopForward("every wanted site was seen")
            raise self.stopped

    def never(self) -> list[str]:
        """Wanted sites that no pass has reached."""
        return [site for site in self.wanted if site not in self._ever]

    def sources_of(self, site: str) -> dict[str, Tap | AttentionTap]:
        """What is read at the model for `site`; for differences that never came, what lacks."""
        if site in self.sources:
            return {site: self.sources[site]}
        below: dict[str, Tap | AttentionTap] = {}
        for term in self._terms[site]:
            below |= self.sources_of(term)
        return {s: p for s, p in below.items() if s not in self._ever} or below

    def _deliver(self, site: str, value: Tensor, live: Live) -> None:
        self._ever.add(site)
        if site in self._pending:
            self._pending.discard(site)
            self._emit(site, value, live)
        users = self._users.get(site, [])
        if not users:
            return
        ready = [u for u in users if all(t in self._parts or t == site for t in self._terms[u])]
        # The stream may be added to in place (falcon, llama4), so what has to wait is copied.
        waits = len(ready) < len(users)
        self._parts[site] = Part(value.clone() if waits else value, live, len(users))
        for user in ready:
            self._subtract(user)

    def _subtract(self, site: str) -> None:
        after, *before = (self._parts[term] for term in self._terms[site])
        value = after.copy
        for part in before:
            value = value - part.copy.to(value.device)
        for term in self._terms[site]:
            self._parts[term].users -= 1
            if not self._parts[term].users:
                del self._parts[term]
        # A change of the difference moves `after` by as much, so they share their gradient.
        self._deliver(site, value, after.live)


def argument(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], tap: Tap
) -> Tensor:
    """The tensor that `tap` names among a call's arguments, passed by position or by keyword."""
    item = tap.item
    names = [] if item is None else list(signature(module.forward).parameters)
    if isinstance(item, int) and item >= len(args) and item < len(names):
        item = names[item]
    elif isinstance(item, str) and item not in kwargs and item in names:
        item = names.index(item)
    return pick_input(args, kwargs, item)
