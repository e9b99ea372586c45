"""Attention probabilities beside a fused kernel that never makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Largest difference between two ways to compute one attention output, relative to its largest value.
# In float64 too, transformers takes the softmax in float32.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

FORBIDDEN = -1e4
"""A mask adds this or less to the scores of keys that are not attended to."""


def additive_mask(
    mask: Any, query: Tensor, key: Tensor, *, causal: bool, window: int | None = None
) -> Tensor | None:
    """What eager attention adds to the scores, from any form of mask that an implementation takes.

    Args:
        mask: None, ``[b, 1 or h, p, k]`` boolean (True attends) or additive, flash attention's
            ``[b, k]`` padding mask, or flex attention's `BlockMask`.
        query: ``[b, h, p, e]``.
        key: ``[b, h, k, e]``.
        causal: Whether no mask, or one that only knows padding, means causal attention.
        window: How many positions back a query sees, for masks that only know padding.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    least = torch.finfo(query.dtype).min
    if mask is None:
        if not causal or queries == 1:
            return None
        allowed = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
        return torch.zeros_like(allowed, dtype=query.dtype).masked_fill(~allowed, least)[None, None]
    dense: Tensor = mask if isinstance(mask, Tensor) else _dense(mask, queries, keys)
    if dense.ndim == 2:
        dense = _of_padding(dense, queries, keys, causal, window)
    dense = dense[..., :keys]
    if dense.dtype == torch.bool:
        return torch.zeros_like(dense, dtype=query.dtype).masked_fill(~dense, least)
    return dense


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """Attention written out: output ``[b, h, p, e]`` and probabilities ``[b, h, p, k]``.

    `key` and `value` may have fewer heads, each shared by consecutive queries' heads.
    """
    key, value = (for_each_head(x, query) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores + mask
    pattern = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    if mask is not None:
        pattern = pattern.masked_fill(nowhere(mask), 0)
    pattern = pattern.to(query.dtype)
    return pattern @ value, pattern


def nowhere(mask: Tensor) -> Tensor:
    """Which queries of an additive mask may attend to nothing, ``[..., p, 1]``."""
    return (mask <= FORBIDDEN).all(-1, keepdim=True)


def require_same(path: str, own: Tensor, written_out: Tensor, pattern: Tensor) -> None:
    """Refuse a pattern that does not reproduce the model's own attention output ``[b, p, h, e]``.

    Raises:
        ValueError: it does not; this attention has a term that was not understood.
    """
    size = own.detach().abs().amax().clamp_min(1e-6)
    # Rows without any probability (pads) are whatever the kernel left there.
    error = ((own - written_out).detach().abs() / size).nan_to_num(0.0)
    error = error[pattern.sum(-1).transpose(1, 2) > 0]
    worst = float(error.max()) if error.numel() else 0.0
    allowed = TOLERANCE.get(own.dtype, 5e-2)
    if worst > allowed:
        raise ValueError(
            f"the attention pattern of {path!r}, written out, does not reproduce the model's own "
            f"head outputs (relative difference {worst:.2g}, allowed {allowed:g}); load the model "
            "with attn_implementation='eager' to read its patterns"
        )


def for_each_head(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values once for each head of `query`."""
    if x.ndim < 4 or x.shape[-3] in (1, query.shape[-3]):
        return x
    return x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3)


def _of_padding(mask: Tensor, queries: int, keys: int, causal: bool, window: int | None) -> Tensor:
    """Flash attention's rule as a dense mask: the last query stands at the last key."""
    kept = mask[:, -keys:].bool()
    position = torch.arange(keys, device=mask.device)
    back = position[keys - queries :, None] - position[None, :]
    allowed = torch.ones_like(back, dtype=torch.bool)
    if causal:
        allowed &= back >= 0
    if window is not None:
        allowed &= back < window
    return allowed & kept[:, None, None, :] & kept[:, None, keys - queries :, None]


def _dense(mask: Any, queries: int, keys: int) -> Tensor:
    from torch.nn.attention.flex_attention import BlockMask, create_mask

    if not isinstance(mask, BlockMask):
        raise TypeError(
            f"attention mask of type {type(mask).__name__}: no way to read it; load the model with "
            "attn_implementation='sdpa' or 'eager'"
        )
    batch, heads = mask.shape[:2]
    device = str(mask.kv_indices.device)
    return create_mask(mask.mask_mod, batch, heads, queries, keys, device=device)
