"""Live tensors at chosen sites, as the model computes them.

`watch` is what `capture` and `extract` stand on. It adds plain forward hooks (and, for `q k v
pattern z`, listens at the attention function), turns residual differences into tensors, and can
leave the forward pass early. Everything is undone when the `with` block ends, however it ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from layerscope.hooks.attending.attention import AttentionListener
from layerscope.hooks.listening.ledger import Emit, Ledger, StopForward
from layerscope.hooks.listening.live import Live, Notes
from layerscope.hooks.listening.passes import ForwardPass, ignored, leading_to, trail
from layerscope.hooks.places import (
    AttentionTap,
    Place,
    Tap,
    argument_at,
    module_at,
    pick,
    pick_input,
)
from layerscope.hooks.sites import layer_of, place_of, resolve

__all__ = ["Listener", "StopForward", "places", "watch"]


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
        self.notes = Notes()
        self.ledger = Ledger(wanted, emit, stop=stop)
        self.ledger.expand(lambda site: place_of(model, site))
        self.passing = ForwardPass(model, self.ledger.begin)
        self.attention = AttentionListener(
            model,
            {s: p for s, p in self.ledger.sources.items() if isinstance(p, AttentionTap)},
            self.ledger.arrive,
            self.passing,
            self.notes,
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
        if ignored():
            return
        call = self.passing.number((module, side))
        for site, tap in taps.items():
            if tap.call == call:
                self.ledger.arrive(site, self._live(site, read(tap)))
            elif call == 1 and all(other.call == 0 for other in taps.values()):
                self.notes.add(
                    f"{tap} runs more than once in a forward pass; {site!r} is its first run"
                )

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
        return trail(self.model, place, self.passing)


def argument(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], tap: Tap
) -> Tensor:
    """The tensor that `tap` names among a call's arguments, passed by position or by keyword."""
    item = None if tap.item is None else argument_at(module, args, kwargs, tap.item)
    return pick_input(args, kwargs, item)
