"""Ways a model is run: generate with a cache, train and inference mode, low precision, devices."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.planted import families

ATTENTION = [f"blocks.1.{part}" for part in ("q", "k", "v", "pattern", "z")]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "falcon", "bloom", "opt"])
def test_generation_with_a_cache_joins_to_one_full_pass(name: str) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"][:, :5]
    sites = ["blocks.0.resid_mid"] * (name not in ("falcon",))
    sites += ["all", "blocks.0.mlp_act", *ATTENTION]
    with torch.no_grad():
        with capture(model, sites) as steps:
            text = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=4,
                min_new_tokens=4,
                do_sample=False,
                pad_token_id=0,
            )
        with capture(model, sites) as whole:
            model(input_ids=text[:, :-1], use_cache=False)
    assert len(steps.passes(0)) == 4
    assert [x.shape[1] for x in steps.passes(0)] == [5, 1, 1, 1]
    for site in whole:
        torch.testing.assert_close(steps.joined(site), whole[site], atol=2e-5, rtol=1e-4)
    with pytest.raises(LookupError, match=r"4 forward passes reached 'blocks.0.resid_post'"):
        steps[0]


def test_an_encoder_runs_once_while_its_decoder_generates() -> None:
    model, batch = families.build("bart"), families.batch("bart")
    with torch.no_grad(), capture(model, ["encoder.blocks.0.resid_post", 0, "blocks.0.k"]) as seen:
        model.generate(input_ids=batch["input_ids"], max_new_tokens=3, min_new_tokens=3)
    assert len(seen.passes("encoder.blocks.0.resid_post")) == 1
    assert len(seen.passes(0)) == 3
    assert seen.joined("blocks.0.k").shape[2] == 3


def test_passes_that_do_not_fit_are_not_joined() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    with torch.no_grad(), capture(model, [0, "blocks.0.k"]) as seen:
        model(ids)
        model(ids[:1])
    with pytest.raises(ValueError, match=r"'blocks.0.resid_post' do not join along positions"):
        seen.joined(0)
    with pytest.raises(ValueError, match=r"'blocks.0.k' are not of one growing cache"):
        seen.joined("blocks.0.k")


@pytest.mark.parametrize("name", ["llama", "falcon", "bloom", "t5"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(name: str, dtype: torch.dtype) -> None:
    model = families.build(name).to(dtype)
    inputs = families.batch(name)
    with torch.inference_mode():
        plain = model(**inputs).logits
        with capture(model, list(anatomy(model).sites)) as seen:
            assert torch.equal(model(**inputs).logits, plain)
    assert seen[0].dtype == dtype
    pattern, v = seen["blocks.1.pattern"], seen["blocks.1.v"]
    v = v.repeat_interleave(pattern.shape[1] // v.shape[1], 1)
    z = (pattern.to(dtype) @ v).transpose(1, 2)
    # Transformers takes the softmax in float32 even of float64 scores.
    loose = {"atol": 3e-2, "rtol": 3e-2} if dtype == torch.bfloat16 else {"atol": 1e-6, "rtol": 0}
    torch.testing.assert_close(seen["blocks.1.z"], z, **loose)


def test_autocast_shows_what_really_runs() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(**inputs, use_cache=False).logits
        with capture(model, [0, *ATTENTION, "blocks.0.mlp_out"]) as seen:
            assert torch.equal(model(**inputs, use_cache=False).logits, plain)
    assert seen["blocks.1.v"].dtype == torch.bfloat16
    assert seen["blocks.0.mlp_out"].dtype == torch.bfloat16
    assert seen["blocks.1.pattern"].float().sum(-1).sub(1).abs().max() < 1e-2


def test_copies_made_in_inference_mode_can_be_trained_on() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    with torch.inference_mode(), capture(model, 1) as seen:
        model(**inputs)
    probe = nn.Linear(families.WIDTH, 3)
    probe(seen[1]).sum().backward()
    assert probe.weight.grad is not None
    assert not seen[1].is_inference()


def test_train_mode_stays_and_dropout_is_what_the_model_drew() -> None:
    model, inputs = families.build("gpt2").train(), families.batch("gpt2")
    anatomy(model)
    torch.manual_seed(5)
    plain = model(**inputs).logits
    after = torch.get_rng_state()
    torch.manual_seed(5)
    with capture(model, ["all", *ATTENTION]) as seen:
        logits = model(**inputs).logits
    assert torch.equal(logits, plain)
    assert torch.equal(torch.get_rng_state(), after)
    assert model.training
    # Probabilities as attention weighs, before dropout removes some.
    torch.testing.assert_close(seen["blocks.1.pattern"].sum(-1), torch.ones(2, 4, 9))


def test_gradient_checkpointing_is_not_seen_twice() -> None:
    model, inputs = families.build("llama").train(), families.batch("llama")
    model.gradient_checkpointing_enable()
    with capture(model, ["all", "blocks.0.mlp_out", "blocks.0.q"], grad=True) as seen:
        model(**inputs).logits.square().mean().backward()
    assert [len(seen.passes(site)) for site in seen] == [1] * 5
    checkpointed = dict(seen.grads)
    model.gradient_checkpointing_disable()
    with capture(model, ["all", "blocks.0.mlp_out", "blocks.0.q"], grad=True) as seen:
        model(**inputs).logits.square().mean().backward()
    for site, gradient in checkpointed.items():
        torch.testing.assert_close(gradient, seen.grads[site])
    assert len(checkpointed) == 5


def test_dispatched_models(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, inputs = families.build("llama"), families.batch("llama")
    sites = [*anatomy(model).sites]
    with torch.no_grad(), capture(model, sites) as plain:
        model(**inputs)
    accelerate.cpu_offload(model)
    with torch.no_grad(), capture(model, sites) as seen:
        model(**inputs)
    for site in sites:
        torch.testing.assert_close(seen[site], plain[site], atol=0, rtol=0)


def test_the_real_model_generates_the_same_with_and_without(shared_data: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shared_data / "stories260K" / "hf").eval()
    ids = torch.tensor([[1, 403, 407, 261, 378]])
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 20, "do_sample": False}
    plain = model.generate(ids, **asked)
    with capture(model, ["all", "blocks.*.pattern", "blocks.*.k"]) as seen:
        assert torch.equal(model.generate(ids, **asked), plain)
    with torch.no_grad(), capture(model, ["all", "blocks.*.pattern", "blocks.*.k"]) as whole:
        model(plain[:, :-1])
    assert whole["blocks.0.k"].shape == (1, 4, plain.shape[1] - 1, 8)
    assert whole["blocks.0.pattern"].shape[1] == 8
    for site in whole:
        torch.testing.assert_close(seen.joined(site), whole[site], atol=2e-5, rtol=1e-4)


def test_the_python_and_torch_generators_do_not_move() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)
    before = torch.get_rng_state(), random.getstate()
    with torch.no_grad(), capture(model, ["all", *ATTENTION]):
        model(**inputs)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
