"""What listeners and writers share: which attention computations are theirs, and which came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import ClassVar

from torch import nn

from layerscope.hooks.attending.hearing import take_part
from layerscope.hooks.attending.parties import PARTS
from layerscope.hooks.listening.live import Notes
from layerscope.hooks.listening.passes import ForwardPass
from layerscope.hooks.places import AttentionTap, module_at


class Participant:
    """Takes part in the attention computations of chosen modules."""

    done: ClassVar[tuple[str, str]]
    """What it does to parts, and to outputs by module path, in the words of its errors."""

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, AttentionTap],
        passing: ForwardPass,
        notes: Notes,
    ) -> None:
        self.wanted: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        for site, tap in taps.items():
            self.wanted[tap.path, tap.call][tap.part] = site
        self.modules = {path: module_at(model, path) for path, _ in self.wanted}
        self.owner = owners(self.modules)
        self.heard: dict[str, set[str]] = {}
        """For each path that ran: the parts that could be met there."""
        self.notes = notes
        self._passing = passing

    def start(self, undo: ExitStack) -> None:
        """Take part until `undo` closes."""
        if self.modules:
            take_part(self, undo)

    def missing(self, tap: AttentionTap) -> str:
        """Why `tap` was not met although its module ran; "" when it did not run."""
        if tap.path not in self.heard:
            return ""
        part, output = self.done
        there = ", ".join(name for name in PARTS if name in self.heard[tap.path])
        kind = type(self.modules[tap.path]).__name__
        if there:
            return f"{tap}: {kind} ran, but only these can be {part} there: {there}"
        return (
            f"{tap}: {kind} ran, but called neither transformers' attention interface nor "
            "scaled_dot_product_attention, and has no softmax between two matrix products. "
            f"Its outputs can be {output} by module path"
        )

    def next(self, path: str, parts: set[str]) -> Mapping[str, str]:
        """The wanted parts, and their sites, of the next computation at `path` in this pass."""
        self.heard[path] = self.heard.get(path, set()) | parts
        return self.wanted.get((path, self._passing.number(("attention", path))), {})


def owners(modules: Mapping[str, nn.Module]) -> dict[nn.Module, str]:
    """Each module inside the wanted ones, and the path under which what it computes is wanted.

    Deeper paths come last: a wanted module inside a wanted module owns what it computes.
    """
    return {
        inner: path
        for path in sorted(modules, key=lambda path: path.count("."))
        for inner in modules[path].modules()
    }
