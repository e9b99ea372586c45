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
from contextlib import ExitStack

from torch import Tensor, nn

from layerscope.hooks.attending.hearing import take_part
from layerscope.hooks.attending.parties import PARTS
from layerscope.hooks.listening.live import Live, Notes
from layerscope.hooks.listening.passes import ForwardPass
from layerscope.hooks.places import AttentionTap, module_at


class AttentionListener:
    """Hears the attention computations of chosen modules."""

    writes = False

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
        self.owner = owners(self.modules)
        self.heard: dict[str, set[str]] = {}
        """For each path that ran: the parts that could be heard there."""
        self._arrive = arrive
        self._passing = passing
        self.notes = notes
        self.differentiable = differentiable

    def start(self, undo: ExitStack) -> None:
        """Listen until `undo` closes."""
        if self.modules:
            take_part(self, undo)

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

    def next(self, path: str, parts: set[str]) -> Mapping[str, str]:
        """The wanted parts, and their sites, of the next computation at `path` in this pass."""
        self.heard[path] = self.heard.get(path, set()) | parts
        return self.wanted.get((path, self._passing.number(("attention", path))), {})

    def meet(self, site: str, live: Live) -> Tensor | None:
        """Tell of one part."""
        self._arrive(site, live)
        return None

    def cuts(self, site: str, shape: tuple[int, int, int, int]) -> Tensor | None:
        """A listener cuts nothing."""
        return None

    def overheard(self, path: str, parts: Mapping[str, Live]) -> None:
        """Tell what is wanted of a computation that was found written out."""
        sites = self.next(path, set(parts))
        for part, live in parts.items():
            if part in sites:
                self._arrive(sites[part], live)


def owners(modules: Mapping[str, nn.Module]) -> dict[nn.Module, str]:
    """Each module inside the wanted ones, and the path under which what it computes is wanted.

    Deeper paths come last: a wanted module inside a wanted module owns what it computes.
    """
    return {
        inner: path
        for path in sorted(modules, key=lambda path: path.count("."))
        for inner in modules[path].modules()
    }
