"""`q k v pattern z`: overhearing attention without forcing the eager implementation.

Three ways a model may compute attention, in the order they are recognised:

1. Through transformers' attention interface (`interface.py`).
2. By calling `scaled_dot_product_attention` or `nn.MultiheadAttention` itself (`inline.py`).
3. Written out: a softmax between two matrix products (`inline.py`).

The model's own function always computes the output, so the model gives the same bits as without
capture. A fused kernel never makes the probabilities; where they are asked for, they are computed
beside it (`pattern.py`) and must reproduce the kernel's output, else there is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerscope.hooks import interface
from layerscope.hooks.inline import PARTS, Overheard
from layerscope.hooks.live import Live, Notes
from layerscope.hooks.passes import ForwardPass, recomputing
from layerscope.hooks.pattern import require_same
from layerscope.hooks.places import AttentionTap, items, module_at


@dataclass(frozen=True)
class Attention:
    """One attention computation that is about to happen, as one of the routes sees it."""

    q: Live
    k: Live
    v: Live
    run: Callable[[], Any]
    """The model's own computation."""
    z: Callable[[Any], Live]
    """The head outputs in what `run` returned."""
    written_out: Callable[[Any], tuple[Tensor, Live] | Live]
    """Given what `run` returned: the probabilities that it already holds, or the same attention
    written out, as (output in the model's own layout, probabilities)."""
    replaced: Callable[[Any, Tensor], Any]
    """What `run` returned, with another output."""
    dropout: bool
    """Whether the model's own computation drops probabilities at random."""


class AttentionListener:
    """Hears the attention computations of chosen modules."""

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, AttentionTap],
        arrive: Callable[[str, Live], None],
        passing: ForwardPass,
        notes: Notes,
        *,
        differentiable: bool,
    ) -> None:
        self.wanted: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for site, tap in taps.items():
            self.wanted[tap.path, tap.call][tap.part] = site
        self.modules = {path: module_at(model, path) for path, _ in self.wanted}
        # Deeper paths come last: a wanted module inside a wanted module owns what it computes.
        self.owner = {
            inner: path
            for path in sorted(self.modules, key=lambda path: path.count("."))
            for inner in self.modules[path].modules()
        }
        self.heard: dict[str, set[str]] = {}
        """For each path that ran: the parts that could be heard there."""
        self._arrive = arrive
        self._passing = passing
        self._notes = notes
        self._differentiable = differentiable
        self._frames: list[tuple[nn.Module, Overheard]] = []

    def start(self, undo: ExitStack) -> None:
        """Listen until `undo` closes."""
        if not self.modules:
            return
        undo.callback(self._close_all)
        undo.enter_context(interface.detour(self._through_interface))
        for path, module in self.modules.items():
            opened = module.register_forward_pre_hook(self._opener(path), with_kwargs=True)
            undo.callback(opened.remove)
            closed = module.register_forward_hook(self._close, always_call=True)
            undo.callback(closed.remove)

    def missing(self, tap: AttentionTap) -> str:
        """Why `tap` was not heard although its module ran; "" when it did not run."""
        if tap.path not in self.heard:
            return ""
        there = ", ".join(part for part in PARTS if part in self.heard[tap.path])
        kind = type(self.modules[tap.path]).__name__
        if there:
            return f"{tap}: {kind} ran, but only these can be heard there: {there}"
        return (
            f"{tap}: {kind} ran, but called neither transformers' attention interface nor "
            "scaled_dot_product_attention, and has no softmax between two matrix products. "
            "Its outputs can be captured by module path"
        )

    def attend(self, path: str, attention: Attention) -> Any:
        """Run one attention computation, telling what is wanted of it."""
        sites = self._next(path, set(PARTS))
        for part in ("q", "k", "v"):
            if part in sites:
                self._arrive(sites[part], getattr(attention, part))
        result = attention.run()
        if "pattern" in sites:
            result, pattern = self._pattern(path, attention, result)
            self._arrive(sites["pattern"], pattern)
        if "z" in sites:
            self._arrive(sites["z"], attention.z(result))
        return result

    def overheard(self, path: str, parts: Mapping[str, Live]) -> None:
        """Tell what is wanted of a computation that was found written out."""
        sites = self._next(path, set(parts))
        for part, live in parts.items():
            if part in sites:
                self._arrive(sites[part], live)

    def _next(self, path: str, parts: set[str]) -> dict[str, str]:
        """The wanted parts, and their sites, of the next computation at `path` in this pass."""
        self.heard[path] = self.heard.get(path, set()) | parts
        return self.wanted.get((path, self._passing.number(("attention", path))), {})

    def _pattern(self, path: str, attention: Attention, result: Any) -> tuple[Any, Live]:
        made = attention.written_out(result)
        if isinstance(made, Live):
            return result, made
        output, pattern = made
        if not attention.dropout:
            written = attention.z(attention.replaced(result, output))
            require_same(path, attention.z(result).value, written.value, pattern.value)
        if not self._differentiable:
            self._notes.add("patterns are computed from q and k beside the fused attention kernel")
            return result, pattern
        self._notes.add(
            "grad=True: a fused attention kernel has no probabilities to differentiate, so where "
            "patterns are wanted the model continues with attention written out (eager); its "
            f"outputs differ by rounding{', and lack attention dropout' * attention.dropout}",
            warn=True,
        )
        return attention.replaced(result, output), pattern

    def _through_interface(self, module: nn.Module, call: interface.Call) -> Any:
        path = self.owner.get(module)
        if path is None or recomputing():
            return call.run()
        # Without a frame, the module was run by its forward(), past its hooks.
        resting = self._frames[-1][1].resting() if self._frames else nullcontext()
        with resting:
            return self.attend(path, Attention(**call.views()))

    def _opener(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def opened(module: nn.Module, args: Any, kwargs: Any) -> None:
            if recomputing():
                return
            self.heard.setdefault(path, set())
            given = (x for _, x in items([*args, *kwargs.values()]) if isinstance(x, Tensor))
            first = next(given, None)
            frame = Overheard(
                1 if first is None else len(first),
                lambda parts: self.overheard(path, parts),
                lambda views: self.attend(path, Attention(**views)),
            )
            frame.__enter__()  # type: ignore[no-untyped-call]
            self._frames.append((module, frame))

        return opened

    def _close(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._frames and self._frames[-1][0] is module:
            self._frames.pop()[1].__exit__(None, None, None)

    def _close_all(self) -> None:
        # KeyboardInterrupt skips forward hooks; a mode left on the stack would outlive the block.
        while self._frames:
            self._frames.pop()[1].__exit__(None, None, None)
