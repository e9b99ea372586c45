"""Which models continue prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

from layerscope.analyses.material import decoders
from layerscope.analyses.material.decoders import require_decoder
from layerscope.hooks.prompts import as_prompts
from layerscope.planted import families


@pytest.mark.parametrize("kind", [hf.BertForMaskedLM, hf.BertLMHeadModel])
@pytest.mark.parametrize("seed", range(8))
def test_an_encoder_is_refused_however_little_it_looks_ahead(kind: Any, seed: int) -> None:
    """Weights as they are first drawn: a later token hardly moves the logits before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = hf.BertConfig(
            vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=64,
        )  # fmt: skip
        model = kind(config).eval()
    prompts = as_prompts(model, [[5 + seed, 6, 7, 8]])
    with pytest.raises(ValueError, match="reads in both directions"):
        require_decoder(model, prompts)


@pytest.mark.parametrize("name", families.names("decoder"))
@pytest.mark.parametrize("ids", [[5], [5, 6, 7], [5, 5, 5, 5]])
def test_decoders_are_taken(name: str, ids: list[int]) -> None:
    for model in (families.build(name), families.build(name).bfloat16()):
        prompts = as_prompts(model, [ids])
        require_decoder(model, prompts)
        assert decoders._influence(model, prompts) <= decoders._limit(model) < 0.1
