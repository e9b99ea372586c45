"""The made-up input: right in kind and size, free of special tokens, the same every time."""

from __future__ import annotations

import pytest
import torch

from layerscope.hooks.locating.example import BATCH, POSITIONS, SOURCE, example
from layerscope.planted.families import build


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("gpt2", {"input_ids": (BATCH, POSITIONS)}),
        ("vit", {"pixel_values": (BATCH, 3, 16, 16)}),
        ("t5", {"input_ids": (BATCH, SOURCE), "decoder_input_ids": (BATCH, POSITIONS)}),
        ("whisper", {"input_features": (BATCH, 8, 24), "decoder_input_ids": (BATCH, POSITIONS)}),
    ],
)
def test_kind_and_size(family: str, shapes: dict[str, tuple[int, ...]]) -> None:
    made = example(build(family)) or {}
    assert {k: tuple(v.shape) for k, v in made.items() if isinstance(v, torch.Tensor)} == shapes


@pytest.mark.parametrize("several", [False, True])
def test_special_tokens_are_avoided(several: bool) -> None:
    model = build("roberta")  # a pad id in the text would shift its positions
    model.config.eos_token_id = list(range(2, 58)) if several else 2
    ids = (example(model) or {})["input_ids"]
    assert not set(ids.flatten().tolist()) & {0, 1, 2}
    if several:
        assert set(ids.flatten().tolist()) <= {58, 59, 60}


def test_short_contexts_are_respected() -> None:
    model = build("gpt2")
    model.config.n_positions = 4
    assert (example(model) or {})["input_ids"].shape == (BATCH, 4)


def test_the_same_every_time_and_no_global_randomness() -> None:
    model, state = build("gpt2"), torch.get_rng_state()
    first, second = example(model), example(model)
    assert first is not None
    assert second is not None
    assert torch.equal(first["input_ids"], second["input_ids"])
    assert torch.equal(torch.get_rng_state(), state)


def test_no_cache_and_no_outputs_that_would_install_hooks() -> None:
    model = build("gpt2")
    model.config.output_hidden_states = True
    made = example(model) or {}
    assert made["use_cache"] is False
    assert made["output_hidden_states"] is False


def test_dtype_follows_the_model() -> None:
    made = example(build("vit").bfloat16()) or {}
    assert made["pixel_values"].dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["cnn", "lstm", "sequential"])
def test_plain_modules_have_none(family: str) -> None:
    assert example(build(family)) is None
