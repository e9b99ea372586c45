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
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.attending.parties import Attention
from layerscope.hooks.attending.pattern import FORBIDDEN, additive_mask, for_each_head, nowhere
from layerscope.hooks.listening.live import Live

Function = Callable[..., Any]


OBEYING = (None, "eager", "sdpa")
"""Implementations that add any mask they are given to the scores. Others know padding at most."""


@dataclass(frozen=True)
class Call:
    """One call of an attention function by a model."""

    real: Callable[[Tensor, Tensor, Tensor, Any], Any]
    """Computes it as the model would, from query, key, value and mask."""
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

    def run(self) -> Any:
        """The model's own computation."""
        return self.real(self.query, self.key, self.value, self.mask)

    def attention(self) -> Attention:
        """The computation as all parties see it."""
        return Attention(
            q=Live(self.query),
            k=Live(self.key),
            v=Live(self.value),
            run=self.run,
            z=lambda result: Live(result[0]),
            written_out=self._written_out,
            replaced=lambda result, output: (output, *result[1:]),
            dropout=self._drops(),
            changed=self._changed,
            weighted=self._weighted,
            allowed=self._allowed,
            obeys=self.implementation in OBEYING,
        )

    def _changed(self, parts: Mapping[str, Tensor], cut: Tensor | None) -> Attention:
        call = replace(
            self,
            query=parts.get("q", self.query),
            key=parts.get("k", self.key),
            value=parts.get("v", self.value),
        )
        return (call if cut is None else call._cut(cut)).attention()

    def _cut(self, cut: Tensor) -> Call:
        """With fewer edges, in the form of mask that the implementation takes."""
        boolean = isinstance(self.mask, Tensor) and self.mask.dtype == torch.bool
        if boolean and self.mask.ndim == 4:
            keys = self.key.shape[-2]
            return replace(self, mask=self.mask[..., :keys] & ~cut.to(self.mask.device))
        least = torch.finfo(self.query.dtype).min
        mask = self._additive_mask()
        if mask is None:
            mask = self.query.new_zeros(1, 1, self.query.shape[-2], self.key.shape[-2])
        cut = cut.to(mask.device)
        # Not a sum: of two -inf, or of two lowest numbers, softmax makes NaN.
        mask = mask.expand(torch.broadcast_shapes(mask.shape, cut.shape))
        return replace(self, mask=mask.masked_fill(cut, least))

    def _allowed(self) -> Tensor:
        mask = self._additive_mask()
        if mask is None:
            return torch.ones(1, 1, self.query.shape[-2], self.key.shape[-2], dtype=torch.bool)
        return (mask > FORBIDDEN).cpu()

    def _weighted(self, pattern: Tensor) -> Tensor:
        return (pattern.to(self.value.dtype) @ for_each_head(self.value, self.query)).transpose(
            1, 2
        )

    def _written_out(self, result: Any) -> tuple[Tensor, Live] | Live:
        own = result[1] if result is not None and len(result) > 1 else None
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
            def run(query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Any:
                return real(module, query, key, value, mask, *args, **kwargs)

            about = implementation, default, module
            for hear in tuple(_listening):
                run = _answered(hear, run, about, (args, kwargs))
            return run(query, key, value, attention_mask)

        return attend

    return get_interface


def _answered(hear: Hear, run: Any, about: tuple[Any, ...], rest: tuple[Any, ...]) -> Any:
    return lambda *inputs: hear(about[2], Call(run, *about, *inputs, *rest))
