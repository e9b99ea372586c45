"""What can be skipped in a model, and on which texts."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import nn

from layerscope.analyses.material.texts import Texts, as_texts
from layerscope.analyses.skipping.skip_lanes import SITES
from layerscope.hooks.anatomy import anatomy


def refuse_model(model: nn.Module, part: str) -> None:
    """Refuse models that have no such part to skip.

    Raises:
        LookupError: no blocks, or blocks without the part.
        ValueError: an encoder-decoder, or a model that reads no tokens.
    """
    found = anatomy(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} has an encoder and a decoder; give one of them by itself, "
            "such as model.get_encoder()"
        )
    if not found.blocks:
        raise LookupError(
            f"no stack of blocks was found in {type(model).__name__}; print(anatomy(model)) says what "
            "was"
        )
    if "input_ids" not in signature(model.forward).parameters:
        raise ValueError(
            f"{type(model).__name__} reads no tokens (its forward takes no input_ids), and this "
            "analysis runs over texts; layer_similarity takes images and other samples too"
        )
    lacking = [
        i for i in range(len(found.blocks)) if f"blocks.{i}.{SITES[part]}" not in found.sites
    ]
    if lacking:
        raise LookupError(
            f"blocks {lacking} of {type(model).__name__} have no {SITES[part]}; take part='block', or "
            "see print(anatomy(model))"
        )


def chosen_texts(
    model: nn.Module,
    data: Any,
    front: int,
    most: int,
    longest: int | None,
    *,
    tokenizer: Any,
    seed: int,
) -> Texts:
    """Texts of `front` + 2 tokens or more, `most` of them at random, cut at `longest`.

    Of a corpus only the first 50 times `most` are looked at; its notes say what was left out.
    """
    texts = as_texts(model, data, tokenizer=tokenizer, limit=None if data is None else 50 * most)
    ids = texts.prompts.ids
    enough = [i for i, x in enumerate(ids) if len(x) >= front + 2]
    notes = []
    if not enough:
        raise ValueError(
            f"no text has {front + 2} tokens or more: one that is changed, and one after it"
        )
    if len(enough) < len(ids):
        notes.append(
            f"{len(ids) - len(enough)} texts of fewer than {front + 2} tokens were left out"
        )
    if len(enough) > most:
        order = torch.randperm(len(enough), generator=torch.Generator().manual_seed(seed))
        notes.append(f"{most} of {len(enough)} texts, drawn at random (max_texts)")
        enough = sorted(enough[i] for i in order[:most].tolist())
    part = texts.chosen(enough)
    long = sum(len(x) > longest for x in part.prompts.ids) if longest else 0
    if long:
        notes.append(f"{long} texts were cut at {longest} tokens (max_tokens)")
        cut = replace(part.prompts, ids=tuple(x[:longest] for x in part.prompts.ids))
        part = replace(part, prompts=cut)
    return replace(part, prompts=replace(part.prompts, notes=(*part.notes, *notes)))
