"""Plain forward hooks on a Llama, one pass for each question: what the engine must reproduce."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]


def module_of(model: Any, kind: str, layer: int) -> tuple[nn.Module, str]:
    """The module that holds a site, and the side; Llama only."""
    block = model.model.layers[layer]
    return {
        "resid_pre": (block, "in"),
        "resid_mid": (block.post_attention_layernorm, "mid"),
        "resid_post": (block, "out"),
        "attn_out": (block.self_attn, "out"),
        "mlp_out": (block.mlp, "out"),
        "z": (block.self_attn.o_proj, "in"),
        "q": (block.self_attn.q_proj, "out"),
        "v": (block.self_attn.v_proj, "out"),
    }[kind]


@torch.no_grad()
def logits(
    model: Any, ids: Tensor, edits: dict[tuple[str, int], Edit] | None = None, **more: Any
) -> Tensor:
    """Logits [b, p, V] of one whole pass with tensors edited by hooks."""
    with ExitStack() as undo:
        for (kind, layer), edit in (edits or {}).items():
            module, side = module_of(model, kind, layer)
            undo.callback(_attach(module, side, edit))
        given = more or {"input_ids": ids}
        found: Tensor = model(**given).logits
    return found


def _attach(module: nn.Module, side: str, edit: Edit) -> Callable[[], None]:
    def entered(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: edit(kwargs[name])}

    def left(module: nn.Module, args: Any, output: Any) -> Any:
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    if side == "in":
        return module.register_forward_pre_hook(entered, with_kwargs=True).remove
    return module.register_forward_hook(left).remove


def seen(model: Any, ids: Tensor, kind: str, layer: int, **more: Any) -> Tensor:
    """What a site holds in one pass."""
    found: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        found.append(x.clone())
        return x

    logits(model, ids, {(kind, layer): look}, **more)
    return found[0]


def put(value: Tensor, at: Any, columns: slice = slice(None)) -> Edit:
    """Write part of another run's tensor at the same place."""

    def edit(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, at, columns] = value[:, at, columns]
        return x

    return edit


@torch.no_grad()
def blinded(
    model: Any,
    ids: Tensor,
    blocks: range,
    queries: list[int],
    keys: list[int],
    heads: list[int] | None = None,
) -> Tensor:
    """Logits with attention edges masked out in some blocks, by a 4-D mask given to each block."""
    length = ids.shape[1]
    low = torch.finfo(torch.float32).min
    cut = torch.full((length, length), low).triu(1)
    cut = cut.repeat(1, model.config.num_attention_heads, 1, 1)
    for head in range(cut.shape[1]) if heads is None else heads:
        for query in queries:
            cut[0, head, query, keys] = low

    def masked(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "attention_mask": cut}

    with ExitStack() as undo:
        for i in blocks:
            block = model.model.layers[i]
            undo.callback(block.register_forward_pre_hook(masked, with_kwargs=True).remove)
        found: Tensor = model(input_ids=ids).logits
    return found


@pytest.fixture(scope="session")
def reference() -> SimpleNamespace:
    """Plain hooks: ``logits``, ``seen``, ``put`` and ``blinded``."""
    return SimpleNamespace(logits=logits, seen=seen, put=put, blinded=blinded)
