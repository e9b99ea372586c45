"""The head alone gives what the model gives, for every family that has one."""

from __future__ import annotations

import pytest
import torch

from layerscope.hooks.capture import capture
from layerscope.hooks.unembed import Unembed
from layerscope.planted import families

WITH_HEAD = [*families.names("decoder"), "mamba", "bert", "roberta", "distilbert", "t5", "bart"]


@pytest.mark.parametrize("name", dict.fromkeys(WITH_HEAD))
def test_the_last_stream_decoded_is_the_models_answer(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    with capture(model, -1) as seen, torch.no_grad():
        expected = model(**batch).logits
    decode = Unembed(model, budget=5 * 4 * expected.shape[-1])  # five positions at a time
    with torch.no_grad():
        assert (decode(seen[-1]) - expected).abs().max() < 2e-6


def test_it_is_differentiable_and_takes_any_shape() -> None:
    decode = Unembed(families.build("gemma2"))
    stream = torch.randn(3, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = decode(stream)
    assert logits.shape == (3, 61)
    logits[1, 7].backward()
    assert stream.grad is not None
    assert stream.grad[1].abs().max() > 0
    assert torch.equal(stream.grad[0], torch.zeros(32))
    assert decode(stream[0]).shape == (61,)


def test_the_norm_alone() -> None:
    model = families.build("llama")
    stream = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Unembed(model).norm(stream), model.model.norm(stream))


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(LookupError, match="has no logits: load it with its head"):
        Unembed(families.build("llama").model)
