"""Transformers' attention functions, overheard at the one place where models look them up.

Every model that uses the interface asks `AttentionInterface.get_interface(name, eager)` for its
function. A detour there hears all implementations (eager, sdpa, flash, flex, hub kernels) without
touching `config._attn_implementation`.

Why not a name of our own in the registry: the name is also what masks are chosen by (a name that
`AttentionMaskInterface` does not know gets no mask at all, silently, and left-padded batches change
their logits), and gpt2, falcon, gemma4 and others compare it with "eager" or "sdpa". With the name
left alone, every such branch is the model's own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerscope.hooks.live import Live
from layerscope.hooks.pattern import additive_mask, nowhere

Function = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """One call of an attention function by a model."""

    run: Callable[[], Any]
    """Computes it as the model would have."""
    implementation: str | None
    eager: Function
    """The written-out attention in the model's own file, with its soft caps, sinks and biases."""
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def views(self) -> dict[str, Any]:
        """What `attention.Attention` wants to know."""
        return {
            "q": Live(self.query),
            "k": Live(self.key),
            "v": Live(self.value),
            "run": self.run,
            "z": lambda result: Live(result[0]),
            "written_out": self._written_out,
            "replaced": lambda result, output: (output, *result[1:]),
            "dropout": self._drops(),
        }

    def _written_out(self, result: Any) -> tuple[Tensor, Live] | Live:
        own = result[1] if len(result) > 1 else None
        if self.implementation == "eager" and isinstance(own, Tensor) and not self._drops():
            return Live(own)
        mask = self._additive_mask()
        rest = {**self.kwargs, "dropout": 0.0}
        key, value = self.key, self.value
        output, pattern = self.eager(self.module, self.query, key, value, mask, *self.args, **rest)
        if mask is None or self.implementation == "eager":
            return output, Live(pattern)
        # A query that may attend to nothing (a left pad): fused kernels give zero there, while
        # written-out attention spreads evenly over what is forbidden.
        dead = nowhere(mask)
        return (
            output.masked_fill(dead.transpose(1, 2), 0),
            Live(pattern, lambda x: x.masked_fill(dead, 0)),
        )

    def _additive_mask(self) -> Tensor | None:
        mask = self.mask
        if mask is None and "flash" in str(self.implementation):
            mask = self.query.new_ones(len(self.key), self.key.shape[2])
        return additive_mask(
            mask,
            self.query,
            self.key,
            causal=self._causal(),
            window=self.kwargs.get("sliding_window"),
        )

    def _drops(self) -> bool:
        return self.module.training and bool(self.kwargs.get("dropout"))

    def _causal(self) -> bool:
        asked = self.kwargs.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if asked is None else asked)


Hear = Callable[[nn.Module, Call], Any]

_lock = threading.Lock()
_listening: list[Hear] = []
_original: Function | None = None


@contextmanager
def detour(hear: Hear) -> Iterator[None]:
    """Let `hear(module, call)` answer every attention call inside the block.

    It must return `call.run()`, or something in its place. Nothing is done when transformers was
    never imported, for then no model can use its interface.
    """
    modeling = sys.modules.get("transformers.modeling_utils")
    lookup = getattr(modeling, "AttentionInterface", None)
    if lookup is None:
        yield
        return
    _open(lookup, hear)
    try:
        yield
    finally:
        _close(lookup, hear)


def _open(lookup: Any, hear: Hear) -> None:
    global _original
    with _lock:
        if not _listening:
            _original = lookup.get_interface
            lookup.get_interface = _overheard(_original)
        _listening.append(hear)


def _close(lookup: Any, hear: Hear) -> None:
    with _lock:
        _listening.remove(hear)
        if not _listening:
            lookup.get_interface = _original


def _overheard(original: Function) -> Function:
    def get_interface(self: Any, implementation: str | None, default: Function) -> Function:
        real = original(self, implementation, default)

        def attend(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attention_mask: Any = None,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            def run() -> Any:
                return real(module, query, key, value, attention_mask, *args, **kwargs)

            for hear in tuple(_listening):
                call = Call(
                    run,
                    implementation,
                    default,
                    module,
                    query,
                    key,
                    value,
                    attention_mask,
                    args,
                    kwargs,
                )
                run = _answered(hear, call)
            return run()

        return attend

    return get_interface


def _answered(hear: Hear, call: Call) -> Callable[[], Any]:
    return lambda: hear(call.module, call)
