"""Every family: known locations, and sums recomputed on an input that anatomy never saw."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import Anatomy, Check, anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.locating import again
from layerscope.hooks.locating.checks import LOGITS, SUMS, UNEMBED
from layerscope.hooks.places import AttentionTap, Tap
from layerscope.planted.families import VOCAB, batch, build, names

# Written down by reading each model's source: block 0, its attention, its MLP (the last matrix
# where the MLP is not one module), final norm, unembedding.
KNOWN: dict[str, tuple[str, str, str | None, str | None, str | None]] = {
    "gpt2": ("transformer.h.0", "attn", "mlp", "transformer.ln_f", "lm_head"),
    "llama": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "qwen3": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "mistral": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "mixtral": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "qwen3_moe": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "gemma2": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "gemma3": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "olmo2": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "gpt_neox": ("gpt_neox.layers.0", "attention", "mlp", "gpt_neox.final_layer_norm", "lm_head"),
    "gptj": ("transformer.h.0", "attn", "mlp", "transformer.ln_f", "lm_head"),
    "falcon": ("transformer.h.0", "self_attention", "mlp", "transformer.ln_f", "lm_head"),
    "phi": ("model.layers.0", "self_attn", "mlp", "model.final_layernorm", "lm_head"),
    "cohere": ("model.layers.0", "self_attn", "mlp", "model.norm", "lm_head"),
    "opt": (
        "model.decoder.layers.0",
        "self_attn",
        "fc2",
        "model.decoder.final_layer_norm",
        "lm_head",
    ),
    "bloom": (
        "transformer.h.0",
        "self_attention",
        "mlp.dense_4h_to_h",
        "transformer.ln_f",
        "lm_head",
    ),
    "mpt": ("transformer.blocks.0", "attn", "ffn.down_proj", "transformer.norm_f", "lm_head"),
    "mamba": ("backbone.layers.0", "mixer", None, "backbone.norm_f", "lm_head"),
    "rwkv": ("rwkv.blocks.0", "attention", "feed_forward", "rwkv.ln_out", "head"),
    "bert": (
        "bert.encoder.layer.0",
        "attention.self",
        "output.dense",
        None,
        "cls.predictions.decoder",
    ),
    "roberta": (
        "roberta.encoder.layer.0",
        "attention.self",
        "output.dense",
        None,
        "lm_head.decoder",
    ),
    "distilbert": (
        "distilbert.transformer.layer.0",
        "attention",
        "ffn",
        None,
        "vocab_projector",
    ),
    "albert": (
        "albert.encoder.albert_layer_groups.0.albert_layers.0",
        "attention",
        "ffn_output",
        None,
        "predictions.decoder",
    ),
    "vit": ("vit.layers.0", "attention", "mlp", "vit.layernorm", "classifier"),
    "deit": ("deit.layers.0", "attention", "mlp", "deit.layernorm", "classifier"),
    "t5": (
        "decoder.block.0",
        "layer.0.SelfAttention",
        "layer.2.DenseReluDense",
        "decoder.final_layer_norm",
        "lm_head",
    ),
    "bart": ("model.decoder.layers.0", "self_attn", "fc2", None, "lm_head"),
    "whisper": (
        "model.decoder.layers.0",
        "self_attn",
        "fc2",
        "model.decoder.layer_norm",
        "proj_out",
    ),
}
PARALLEL = {"gpt_neox", "gptj", "falcon", "phi", "cohere"}
POST_NORM = {"bert", "roberta", "distilbert", "albert", "bart"}
FAMILIES = [name for name in names() if name not in names("plain")]


@cache
def located(family: str) -> tuple[nn.Module, Anatomy]:
    """A model that no test changes, and its anatomy."""
    model = build(family)
    return model, anatomy(model)


def check(found: Anatomy, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def values(model: nn.Module, found: Anatomy, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every site outside the attention function, captured on `given`."""
    wanted = [s for s, place in found.sites.items() if not isinstance(place, AttentionTap)]
    with torch.no_grad(), capture(model, wanted) as seen:
        model(**given)
    return dict(seen)


def test_every_family_of_the_promise_is_known_here() -> None:
    assert set(KNOWN) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_where_the_source_says(family: str) -> None:
    found = located(family)[1]
    block, attn, mlp, norm, unembed = KNOWN[family]
    first = found.blocks[0]
    assert first.path == block
    assert first.attn == f"{block}.{attn}"
    assert first.mlp == (mlp and f"{block}.{mlp}")
    assert (found.norm, found.unembed) == (norm, unembed)
    assert len(found.blocks) == 3
    assert first.parallel == (family in PARALLEL)
    assert first.norms, "every family normalises its stream"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_check_that_applies_passes(family: str) -> None:
    found = located(family)[1]
    assert [c for c in found.checks if c.passed is not True] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_sum_to_the_stream_on_another_input(family: str) -> None:
    model, found = located(family)
    seen = values(model, found, batch(family, seed=5))
    prefixes = ["blocks"] + (["encoder.blocks"] if found.encoder else [])
    for prefix in prefixes:
        blocks = found.encoder if prefix.startswith("encoder") else found.blocks
        for block in blocks:
            name = f"{prefix}.{block.index}"
            added = [x for site, x in seen.items() if site.startswith(name) and "_out" in site]
            assert added, f"{name} adds nothing"
            total = seen[f"{name}.resid_pre"] + sum(added)
            torch.testing.assert_close(total, seen[f"{name}.resid_post"], rtol=1e-5, atol=1e-5)
            following = seen.get(f"{prefix}.{block.index + 1}.resid_pre")
            if following is not None:
                assert torch.equal(seen[f"{name}.resid_post"], following)
    assert torch.equal(seen["embed"], seen["blocks.0.resid_pre"])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - POST_NORM - {"rwkv"}))
def test_contributions_are_modules_where_they_can_be(family: str) -> None:
    sites = located(family)[1].sites
    assert all(isinstance(sites[s], Tap) for s in sites if s.endswith("_out"))


@pytest.mark.parametrize("family", FAMILIES)
def test_mid_residual_exists_unless_sublayers_run_in_parallel(family: str) -> None:
    has_mid = "blocks.1.resid_mid" in located(family)[1].sites
    assert has_mid == (family not in PARALLEL and family != "mamba")


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma2", "opt", "gpt_neox", "bert"])
def test_stream_equals_the_hidden_states_that_transformers_returns(family: str) -> None:
    model, found = located(family)
    given = batch(family)
    seen = values(model, found, given)
    with torch.no_grad():
        states = model(**given, output_hidden_states=True).hidden_states
    assert torch.equal(seen["embed"], states[0])
    for i in range(2):  # the last entry is normalised, which is not the stream
        assert torch.equal(seen[f"blocks.{i}.resid_post"], states[i + 1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gptj", "opt", "t5"])
def test_neurons_enter_the_matrix_that_makes_the_output(family: str) -> None:
    model, found = located(family)
    place = found.sites["blocks.1.mlp_act"]
    assert isinstance(place, Tap)
    assert place.side == "in"
    matrix = model.get_submodule(place.path)
    seen = values(model, found, batch(family))
    source = again.read(model, ((), batch(family)), [Tap(found.blocks[1].mlp or "")])[0]
    with torch.no_grad():
        made = matrix(seen["blocks.1.mlp_act"])
    torch.testing.assert_close(made, source.reshape_as(made))


def test_silenced_attention_leaves_the_mid_residual_equal_to_the_input() -> None:
    model = build("llama")
    anatomy(model)  # located before: the answer must be about places, not about these weights
    with torch.no_grad():
        model.get_submodule("model.layers.1.self_attn.o_proj").weight.zero_()
    seen = values(model, anatomy(model), batch("llama"))
    assert torch.equal(seen["blocks.1.resid_pre"], seen["blocks.1.resid_mid"])
    assert not torch.equal(seen["blocks.0.resid_pre"], seen["blocks.0.resid_mid"])


@pytest.mark.parametrize(
    ("family", "settings", "formula"),
    [
        ("llama", {}, "logits = unembedding"),
        ("cohere", {}, "logits = 0.25 * unembedding"),
        ("gemma2", {}, "logits = 30 * tanh(unembedding / 30)"),
        ("gemma2", {"final_logit_softcapping": 7.0}, "logits = 7 * tanh(unembedding / 7)"),
    ],
)
def test_what_follows_the_unembedding_is_named(
    family: str, settings: dict[str, Any], formula: str
) -> None:
    model = build(family)
    for name, value in settings.items():
        setattr(model.config, name, value)
    assert check(anatomy(model), LOGITS).detail == formula


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gpt2", "lm_head receives transformer.ln_f"),
        ("bert", "receives the last resid_post through cls.predictions.transform"),
        ("roberta", "receives the last resid_post through lm_head"),
        ("vit", "classifier receives vit.layernorm at position 0"),
    ],
)
def test_what_the_unembedding_receives_is_named(family: str, words: str) -> None:
    assert words in check(located(family)[1], UNEMBED).detail


def test_shapes_are_read_in_letters() -> None:
    shapes = located("llama")[1].shapes
    assert shapes["blocks.0.resid_post"] == "b p 32"
    assert shapes["blocks.0.q"] == "b 4 p 8"
    assert shapes["blocks.0.k"] == "b 2 p 8"  # grouped keys
    assert shapes["blocks.0.pattern"] == "b 4 p p"
    assert shapes["blocks.0.z"] == "b p 4 8"
    assert shapes["blocks.0.mlp_act"] == "b p 48"
    assert shapes["logits"] == f"b p {VOCAB}"


def test_forward_order_of_sites() -> None:
    sites = [s for s in located("gpt2")[1].sites if s.startswith("blocks.0.")]
    parts = [site.removeprefix("blocks.0.") for site in sites]
    assert parts == [
        "resid_pre",
        *("q", "k", "v", "pattern", "z"),
        *("attn_out", "resid_mid", "mlp_act", "mlp_out", "resid_post"),
    ]


def test_shared_blocks_are_told_apart_by_their_call() -> None:
    found = located("albert")[1]
    assert [block.call for block in found.blocks] == [0, 1, 2]
    assert len({block.path for block in found.blocks}) == 1
    attention = [found.sites[f"blocks.{i}.q"] for i in range(3)]
    assert [p.call for p in attention if isinstance(p, AttentionTap)] == [0, 1, 2]


def test_encoder_and_decoder_have_their_own_blocks() -> None:
    found = located("bart")[1]
    assert (len(found.encoder), len(found.blocks)) == (2, 3)
    assert found.encoder[0].path == "model.encoder.layers.0"
    assert "blocks.0.cross_attn_out" in found.sites
    assert "encoder.blocks.0.cross_attn_out" not in found.sites


def test_half_precision_passes_by_its_own_rounding() -> None:
    for family in ("llama", "gemma2", "falcon", "bert"):
        found = anatomy(build(family).bfloat16())
        assert found.passed, (family, found.checks)
        assert (check(found, SUMS).error or 0) > 1e-5


@pytest.mark.parametrize(
    "folder", ["stories260K/hf", "nanogpt_sort/hf", "gpt2_books_steps/step2048"]
)
def test_real_models_pass(shared_data: Path, folder: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shared_data / folder)
    found = anatomy(model)
    assert [c for c in found.checks if c.passed is not True] == []
    assert len(found.blocks) == model.config.num_hidden_layers
