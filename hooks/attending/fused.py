"""Calls of `scaled_dot_product_attention` that a module makes by itself, and layouts of heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from layerscope.hooks.attending.parties import Attention
from layerscope.hooks.attending.pattern import FORBIDDEN, additive_mask, attention, for_each_head
from layerscope.hooks.listening.live import Live

FUSED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@dataclass(frozen=True)
class Fused:
    """One call of `scaled_dot_product_attention`."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    batch: int

    def attention(self) -> Attention:
        """The call as all parties see it."""
        call = self._named()
        return Attention(
            q=merged(call["query"], self.batch),
            k=merged(call["key"], self.batch),
            v=merged(call["value"], self.batch),
            run=lambda: self.func(*self.args, **self.kwargs),
            z=lambda out: by_position(out, self.batch),
            written_out=lambda result: self._written_out(),
            replaced=lambda out, output: output,
            dropout=bool(call.get("dropout_p")),
            changed=self._changed,
            weighted=self._weighted,
            allowed=self._allowed,
            obeys=True,
        )

    def _named(self) -> dict[str, Any]:
        return dict(zip(FUSED, self.args, strict=False)) | dict(self.kwargs)

    def _changed(self, parts: Mapping[str, Tensor], cut: Tensor | None) -> Attention:
        call = self._named()
        names = {"q": "query", "k": "key", "v": "value"}
        call |= {names[part]: x for part, x in parts.items()}
        if cut is not None:
            call |= {"attn_mask": self._with_cut(cut), "is_causal": False}
        return Fused(self.func, (), call, self.batch).attention()

    def _with_cut(self, cut: Tensor) -> Tensor:
        query = self._named()["query"]
        mask = self._mask()
        least = torch.finfo(query.dtype).min
        if mask is None:
            mask = query.new_zeros(cut.shape[-2:])
        cut = cut.to(mask.device)
        if query.ndim == 3:  # heads are merged into the batch
            count = query.shape[0] // self.batch
            cut = cut.expand(self.batch, count, *cut.shape[-2:]).flatten(0, 1)
        mask = mask.expand(torch.broadcast_shapes(mask.shape, cut.shape))
        return mask.masked_fill(cut, least)

    def _mask(self) -> Tensor | None:
        call = self._named()
        mask = call.get("attn_mask")
        causal = bool(call.get("is_causal")) and mask is None
        return additive_mask(mask, call["query"], call["key"], causal=causal)

    def _allowed(self) -> Tensor:
        mask = self._mask()
        if mask is None:
            call = self._named()
            return torch.ones(1, 1, call["query"].shape[-2], call["key"].shape[-2]).bool()
        return (heads(mask, self.batch) if mask.ndim > 2 else mask[None, None]).cpu() > FORBIDDEN

    def _written_out(self) -> tuple[Tensor, Live]:
        call = self._named()
        query, key, value = call["query"], call["key"], call["value"]
        output, pattern = attention(query, key, value, self._mask(), scale=call.get("scale"))
        return output, merged(pattern, self.batch)

    def _weighted(self, pattern: Tensor) -> Tensor:
        call = self._named()
        value = call["value"]
        return pattern.to(value.dtype) @ for_each_head(value, call["query"])


def heads(x: Tensor, batch: int) -> Tensor:
    """``[b, h, p, e]`` of a tensor whose heads may be merged into the batch, or be grouped."""
    if x.ndim == 4:
        return x
    return x.reshape(batch if x.ndim == 3 else x.shape[0], -1, *x.shape[-2:])


def merged(x: Tensor, batch: int) -> Live:
    """A tensor as the model has it, shown as ``[b, h, p, e]``."""
    return Live(x, partial(heads, batch=batch), lambda y: y.reshape(x.shape))


def by_position(x: Tensor, batch: int) -> Live:
    """Head outputs as the model has them, shown as ``[b, p, h, e]``."""
    return Live(
        x, lambda y: heads(y, batch).transpose(1, 2), lambda y: y.transpose(1, 2).reshape(x.shape)
    )
