"""Whether a model continues prompts, so that an answer can be asked of it."""

from __future__ import annotations

import torch
from torch import nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.quiet import undisturbed


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
    first = prompts.ids[0]
    ids = torch.stack([torch.cat([first, first[:1]]), torch.cat([first, first.flip(0)[:1]])])
    if torch.equal(ids[0], ids[1]):
        ids[1, -1] = 0 if int(ids[1, -1]) else 1
    length = min(len(ids[0]), prompts.context or len(ids[0]))
    with undisturbed(model), capture(model, "logits") as seen:
        model(input_ids=ids[:, -length:].to(device_of(model)))
    early = seen["logits"][:, :-1].float()
    scale = float(early.abs().max()) or 1.0
    if float((early[0] - early[1]).abs().max()) > 1e-3 * scale:
        raise ValueError(
            f"{name} reads in both directions (a later token changes the logits of earlier ones), "
            "as encoders do: it fills in masks and does not continue prompts, so there is no answer "
            "that a pass could give; this needs a decoder"
        )
