"""Whether a model continues prompts, so that an answer can be asked of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.quiet import undisturbed

NOISE = 8
"""Roundings of its type by which the logits of a causal model may differ: experts see other batches."""


def require_decoder(model: nn.Module, prompts: Prompts) -> None:
    """Refuse models that cannot continue a prompt: no next-token logits, or tokens that see later ones.

    Raises:
        ValueError: an encoder, an encoder-decoder, or a model without its head; the message says why.
    """
    name = type(model).__name__
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"{name} is an encoder-decoder: its prompt and its answer are read by different "
            "stacks of blocks, so an answer does not continue a prompt; this needs a decoder"
        )
    if "logits" not in anatomy(model).sites:
        raise ValueError(
            f"{name} has no logits over a vocabulary, so no answer can be scored; load it with its "
            "head (such as AutoModelForCausalLM)"
        )
    if _influence(model, prompts) > _limit(model):
        raise ValueError(
            f"{name} reads in both directions (a later token changes the logits of earlier ones), "
            "as encoders do: it fills in masks and does not continue prompts, so there is no answer "
            "that a pass could give; this needs a decoder"
        )


def _limit(model: nn.Module) -> float:
    """The influence of a later token that is still rounding; none where the model says it writes no text."""
    config = getattr(model, "config", None)
    generates = getattr(model, "can_generate", None)
    if callable(generates) and not generates() and not getattr(config, "is_decoder", False):
        return 0.0
    floating = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return NOISE * max((torch.finfo(kind).eps for kind in floating), default=0.0)


def _influence(model: nn.Module, prompts: Prompts) -> float:
    """How far a later token moves the logits before it, as a share of the largest logit."""
    first = prompts.ids[0]
    one = torch.cat([first, first[:1]])
    two = one.clone()
    two[-1] = first[-1] if first[-1] != first[0] else int(first[0] == 0)
    length = min(len(one), prompts.context or len(one))
    early, other = (_early(model, ids[-length:]) for ids in (one, two))
    if not early.numel():
        return 0.0
    return float((early - other).abs().max()) / (float(early.abs().max()) or 1.0)


def _early(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits before the last token, of a pass by itself: rows of one batch are rounded differently."""
    with undisturbed(model), capture(model, "logits") as seen:
        model(input_ids=ids[None].to(device_of(model)))
    return seen["logits"][:, :-1].double()
