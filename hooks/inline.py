"""Attention that a module computes by itself, overheard from the torch functions it calls."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from layerscope.hooks.live import Live
from layerscope.hooks.pattern import additive_mask, attention

PARTS = ("q", "k", "v", "pattern", "z")
PRODUCTS = {"matmul", "bmm", "baddbmm", "__matmul__"}
FUSED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class Overheard(TorchFunctionMode):
    """Listens while one attention module runs.

    Args:
        batch: Batch size, to take heads apart where they were merged into it.
        found: Told the parts of attention that is written out, once it is complete.
        attend: Runs a fused attention call (see `attention.Attention` for its argument).
    """

    def __init__(
        self,
        batch: int,
        found: Callable[[Mapping[str, Live]], None],
        attend: Callable[[dict[str, Any]], Any],
    ) -> None:
        super().__init__()
        self.batch = batch
        self._found = found
        self._attend = attend
        self._resting = False
        self._elsewhere = False
        self._products: list[tuple[Tensor, Tensor, torch.Size]] = []
        self._scores: dict[str, Live] | None = None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Deaf inside the block: another route hears this module's attention."""
        self._resting = self._elsewhere = True
        try:
            yield
        finally:
            self._resting = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._resting:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._fused(func, args, kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs)
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "softmax" and _last_axis(out, args, kwargs):
            self._softmax(out)
        elif name in PRODUCTS and isinstance(out, Tensor):
            self._product(*_operands(name, args, kwargs), out)
        return out

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        if exception[0] is None:
            self._tell()

    def _fused(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = dict(zip(FUSED, args, strict=False)) | kwargs
        query, key, value = call["query"], call["key"], call["value"]
        self._elsewhere = True
        causal = call.get("is_causal", False)

        layout = partial(heads, batch=self.batch)

        def written_out(result: Any) -> tuple[Tensor, Live]:
            mask = call.get("attn_mask")
            mask = additive_mask(mask, query, key, causal=causal and mask is None)
            output, pattern = attention(query, key, value, mask, scale=call.get("scale"))
            return output, Live(pattern, layout)

        return self._attend(
            {
                "q": Live(query, layout),
                "k": Live(key, layout),
                "v": Live(value, layout),
                "run": lambda: func(*args, **kwargs),
                "z": lambda out: Live(out, lambda x: layout(x).transpose(1, 2)),
                "written_out": written_out,
                "replaced": lambda out, output: output,
                "dropout": bool(call.get("dropout_p")),
            }
        )

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        query = args[0] if args else kwargs["query"]
        self.batch = query.shape[1] if query.ndim == 3 else 1
        with self:
            return _multi_head_attention(*args, **kwargs)

    def _product(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        if self._scores is None:
            self._products.append((left, right, out.shape))
            return
        weights = self._scores["pattern"].tensor
        if left.numel() == weights.numel() and left.shape[-1] == weights.shape[-1]:
            layout = partial(heads, batch=self.batch)
            self._scores["v"] = Live(right, layout)
            self._scores["z"] = Live(out, lambda x: layout(x).transpose(1, 2))
            self._tell()

    def _softmax(self, out: Tensor) -> None:
        self._tell()
        layout = partial(heads, batch=self.batch)
        self._scores = {}
        made = [
            (left, right)
            for left, right, shape in self._products
            if shape[-2:] == out.shape[-2:] and shape.numel() == out.numel()
        ]
        if len(made) == 1:  # with several, which of them is q k^T would be a guess
            self._scores["q"] = Live(made[0][0], layout)
            self._scores["k"] = Live(made[0][1], lambda x: layout(x).transpose(-1, -2))
        self._scores["pattern"] = Live(out, layout)
        self._products.clear()

    def _tell(self) -> None:
        scores, self._scores = self._scores, None
        if scores and not self._elsewhere:
            self._found({part: scores[part] for part in PARTS if part in scores})


def heads(x: Tensor, batch: int) -> Tensor:
    """``[b, h, p, e]`` of a tensor whose heads may be merged into the batch, or be grouped."""
    if x.ndim == 4:
        return x
    return x.reshape(batch if x.ndim == 3 else x.shape[0], -1, *x.shape[-2:])


def _last_axis(out: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return out.ndim >= 3 and axis in (-1, out.ndim - 1)


def _operands(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    if name != "baddbmm":
        given = (*args, *kwargs.values())
        return given[0], given[1]
    named = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | dict(kwargs)
    return named["batch1"], named["batch2"]


# The function refuses to show its inside: its first lines hand the call over to the active mode.
# A copy of it that is told no mode is active runs its body under ours.
_multi_head_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)
