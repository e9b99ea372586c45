"""What a latent writes straight into the output: its direction through the model's own head."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.lenses.frozen_norm import FrozenHead
from layerscope.analyses.material.pieces import piece
from layerscope.analyses.material.texts import run
from layerscope.analyses.sae.looking.firing import texts_of
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.load import device_of, dtype_of, tokenizer_of
from layerscope.hooks.quiet import undisturbed
from layerscope.store import Store

TYPICAL = 16
"""Texts on which the typical length of the final stream is taken."""
LONGEST = 128
"""Tokens of each of them."""
BLOCK = 2**25
"""Logits that are made at a time."""
STREAM = re.compile(r"embed|blocks\.\d+\.(resid_(pre|mid|post)|attn_out|mlp_out)")
"""Sites that are the residual stream, or are added to it."""


@dataclass(frozen=True)
class LogitEffects:
    """Tokens that each latent raises and lowers most."""

    up: Tensor
    """``[latents, keep]`` token ids, most raised first."""
    up_logits: Tensor
    """``[latents, keep]`` logits per unit of code, less the mean over the vocabulary."""
    down: Tensor
    down_logits: Tensor


def logit_effects(
    model: nn.Module,
    decoder: Tensor,
    stream: Tensor,
    *,
    keep: int,
    say: Callable[[int], Any] = int,
) -> LogitEffects:
    """Direct effect of decoder rows ``[latents, d]`` on the logits.

    The final norm's scale is that of the row of `stream` ``[rows, d]`` with the median length, held
    fixed (see `FrozenHead`): another scale stretches all numbers alike and changes no order.

    Raises:
        ValueError: rows of another width than the residual stream, or a head under which logits of
            parts do not add up.
    """
    if decoder.shape[1] != stream.shape[1]:
        raise ValueError(
            f"the directions have width {decoder.shape[1]} and the residual stream of "
            f"{type(model).__name__} {stream.shape[1]}: is this the model that the autoencoder was "
            "trained on?"
        )
    lengths = stream.norm(dim=1)
    middle = lengths.argsort(stable=True)[len(lengths) // 2]
    head = FrozenHead(model, stream[middle][None])
    size = max(1, BLOCK // head.constant.shape[-1])
    rows = decoder.detach().to(stream)
    found: list[list[Tensor]] = [[], [], [], []]
    for part in rows.split(size):
        logits = head(part).float()
        logits = logits - logits.mean(1, keepdim=True)
        for place, falling in ((0, True), (2, False)):
            top = extremes(logits, keep, largest=falling)
            found[place].append(top.cpu())
            found[place + 1].append(logits.gather(1, top).cpu())
        say(len(part))
    return LogitEffects(*(torch.cat(parts) for parts in found))


def extremes(logits: Tensor, keep: int, *, largest: bool) -> Tensor:
    """``[rows, keep]`` of logits ``[rows, vocab]`` the tokens at one end, the outermost first.

    Of equals the lower id; torch.topk does not say which it takes.
    """
    left = logits.clone() if largest else -logits
    chosen = []
    for _ in range(min(keep, logits.shape[1])):
        best = left.argmax(1, keepdim=True)
        chosen.append(best)
        left.scatter_(1, best, -torch.inf)
    return torch.cat(chosen, 1)


def written(target: str) -> str:
    """Why latents that write at `target` have no direct logit effect; empty where they have one."""
    sites = target.split(",")
    if STREAM.fullmatch(sites[-1].strip()):
        return ""
    return f"no logit effects: {target or 'an unknown site'} is not added to the residual stream"


def typical_stream(model: nn.Module, store: Store) -> Tensor:
    """Final residual streams ``[rows, d]``: of the store where it has them, else of its first texts.

    Raises:
        LookupError: the store has neither them nor token ids.
    """
    last = f"blocks.{len(anatomy(model).blocks) - 1}.resid_post"
    if last in store.sites:
        return store[last][: TYPICAL * LONGEST].to(device_of(model), dtype_of(model))
    frame = store.rows
    if "token_id" not in frame or frame["token_id"].isna().any():
        raise LookupError(
            f"logit effects need the final norm's scale, and the store has neither {last} nor token "
            f"ids: extract it with {last} among the layers, or leave model=None"
        )
    ids = frame["token_id"].to_numpy(dtype=np.int64)
    text = texts_of(store)
    found = []
    for number in np.unique(text)[:TYPICAL]:
        own = torch.from_numpy(ids[text == number][:LONGEST])
        with torch.no_grad(), undisturbed(model), capture(model, [last]) as seen:
            run(model, own[None])
        found.append(seen[last][0])
    return torch.cat(found)


def speller(model: nn.Module, tokenizer: Any, store: Store) -> Callable[[int], str]:
    """How a token id is written: by the tokenizer, else as the store has it, else by its number."""
    found = None
    if tokenizer is not None:
        found = tokenizer_of(model, tokenizer)
    else:
        with suppress(ValueError, OSError):
            found = tokenizer_of(model)
    if found is not None:
        return lambda token: piece(found, token)
    frame = store.rows
    known = {}
    if {"token_id", "token"} <= set(frame):
        pairs = frame[["token_id", "token"]].drop_duplicates("token_id").dropna()
        known = {int(a): str(b) for a, b in zip(pairs["token_id"], pairs["token"], strict=True)}
    return lambda token: known.get(token, f"#{token}")
