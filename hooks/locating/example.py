"""A small input for a model that describes itself: made from its config and forward signature."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.locating.stacks import declarer

BATCH, POSITIONS, SOURCE = 2, 7, 5
"""Odd and different on purpose: an axis can be recognised by its length."""


def example(model: nn.Module) -> dict[str, Any] | None:
    """Keyword arguments for one small forward pass, or None where only the user can know.

    Text models get random token ids, vision models an image of noise, audio models noise features;
    an encoder-decoder gets both sides. No cache is asked for. Seeded by its own generator.
    """
    about = declarer(model)
    config = getattr(about, "config", None)
    if config is None or not hasattr(about, "main_input_name"):
        return None
    main = about.main_input_name
    given = _main_input(about, config, main)
    if given is None:
        return None
    inputs: dict[str, Any] = {main: given}
    if getattr(config, "is_encoder_decoder", False) and _accepts(about, "decoder_input_ids"):
        inputs["decoder_input_ids"] = _ids(about, config, POSITIONS)
    quiet = {"use_cache": False, "output_hidden_states": False, "output_attentions": False}
    asked = {k: v for k, v in quiet.items() if _accepts(about, k) and getattr(config, k, None)}
    return {k: _on(v, about) for k, v in {**inputs, **asked}.items()}


def _main_input(about: nn.Module, config: Any, main: str) -> Tensor | None:
    if main == "input_ids":
        encoder = getattr(config, "is_encoder_decoder", False)
        return _ids(about, config, SOURCE if encoder else POSITIONS)
    if main == "pixel_values":
        return _image(config)
    if main in ("input_features", "input_values"):
        return _sound(config, main)
    return None


def _ids(about: Any, config: Any, positions: int) -> Tensor:
    """[batch, positions] random ids; special tokens are avoided, for a pad would shift positions."""
    config = config.get_text_config(decoder=True)
    embedding = about.get_input_embeddings()
    vocabulary = getattr(embedding, "num_embeddings", None) or config.vocab_size
    longest = getattr(config, "max_position_embeddings", None)
    if isinstance(longest, int) and longest > 0:
        positions = min(positions, longest)
    special: set[Any] = set()
    for kind in ("pad", "bos", "eos"):
        marked = getattr(config, f"{kind}_token_id", None)  # one id, several, or none
        special |= set(marked) if isinstance(marked, (list, tuple)) else {marked}
    usable = [i for i in range(min(vocabulary, 10_000)) if i not in special] or [0]
    choice = torch.randint(len(usable), (BATCH, positions), generator=_generator())
    return torch.tensor(usable)[choice]


def _image(config: Any) -> Tensor | None:
    config = getattr(config, "vision_config", None) or config
    size = getattr(config, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(config, "num_channels", 3)
    return torch.randn(BATCH, channels, height, width, generator=_generator())


def _sound(config: Any, main: str) -> Tensor | None:
    if main == "input_values":
        return torch.randn(BATCH, 4_000, generator=_generator())
    bins = getattr(config, "num_mel_bins", None)
    if bins is None:
        return None
    # Twice the encoder's positions: the usual front end of these models halves the frame rate.
    frames = 2 * getattr(config, "max_source_positions", 64)
    return torch.randn(BATCH, bins, frames, generator=_generator())


def _on(value: Any, about: nn.Module) -> Any:
    if not isinstance(value, Tensor):
        return value
    weight = next((p for p in about.parameters() if p.is_floating_point()), None)
    if weight is None:
        return value
    value = value.to(weight.device)
    return value.to(weight.dtype) if value.is_floating_point() else value


def _accepts(about: nn.Module, name: str) -> bool:
    parameters = inspect.signature(about.forward).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
