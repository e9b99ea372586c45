"""Sublayers that add only zeros are found where they are, not taken for their neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.planted import families
from layerscope.planted.two_hop import two_hop

LAST = {
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
    "gemma2": ("self_attn.o_proj", "mlp.down_proj"),
    "gptj": ("attn.out_proj", "mlp.fc_out"),
}


def mute(model: Any, path: str) -> None:
    for name, parameter in model.named_parameters():
        if name.startswith(path):
            with torch.no_grad():
                parameter.zero_()


@pytest.mark.parametrize("family", LAST)
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=["attention", "mlp", "both"])
def test_the_sites_are_those_of_the_model_that_speaks(family: str, which: tuple[int, ...]) -> None:
    speaking, model = families.build(family), families.build(family)
    expected = anatomy(speaking)
    for block, part in [(b, p) for b in expected.blocks[1:] for p in which]:
        mute(model, f"{block.path}.{LAST[family][part]}")
    found = anatomy(model)
    assert found.sites == expected.sites
    assert found.blocks == expected.blocks
    assert found.passed
    assert any("these return zeros" in note for note in found.notes)
    assert not expected.notes
    # What is read there is what the model computes, not the noise.
    batch: Any = families.batch(family)
    names = ("attn_out", "mlp_out")
    with capture(model, [f"blocks.2.{names[p]}" for p in which]) as seen:
        model(**batch)
    assert all(not tensor.any() for tensor in seen.values())


def test_a_planted_model_of_mostly_zeros_has_all_its_parts() -> None:
    found = anatomy(two_hop(1, 3, 5).model)
    assert [block.kind for block in found.blocks] == ["attn + mlp"] * 8
    assert found.blocks[2].attn == "model.layers.2.self_attn"
    assert found.blocks[2].mlp == "model.layers.2.mlp"
    assert found.passed


def test_no_hook_and_no_random_state_is_left_behind() -> None:
    model = families.build("llama")
    mute(model, "model.layers.1.mlp.down_proj")
    state = torch.get_rng_state()
    anatomy(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
