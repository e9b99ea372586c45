"""Gradients at sites: equal to those of an independent computation."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.listening import watch as watching
from layerscope.hooks.places import Difference, Tap
from layerscope.planted import families

STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_act")


def loss_of(logits: Tensor) -> Tensor:
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    return (logits * weights.to(logits)).sum()


def nudged(model: nn.Module, inputs: dict[str, Tensor], path: str, side: str, by: Tensor) -> Tensor:
    """The loss when `by` is added at a module: what a gradient is about, without autograd hooks."""
    if side == "in":
        handle = model.get_submodule(path).register_forward_pre_hook(
            lambda module, args: (args[0] + by, *args[1:])
        )
    else:
        handle = model.get_submodule(path).register_forward_hook(
            lambda module, args, out: (
                out + by if isinstance(out, Tensor) else (out[0] + by, *out[1:])
            )
        )
    try:
        return loss_of(model(**inputs).logits)
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox", "falcon", "bert"])
def test_gradients_are_those_of_a_nudge_at_the_module(name: str) -> None:
    model, inputs = families.build(name).double(), families.batch(name)
    places = anatomy(model).sites
    sites = [f"blocks.1.{part}" for part in STREAM if f"blocks.1.{part}" in places]
    with capture(model, sites, grad=True) as seen:
        loss_of(model(**inputs).logits).backward()
    checked = 0
    for site in sites:
        place = places[site]
        if not hasattr(place, "path"):
            continue
        if place.side == "in" and site.endswith("resid_mid"):
            continue  # also goes around the module: see the test of differences
        by = torch.zeros_like(seen[site]).requires_grad_()
        loss = nudged(model, inputs, place.path, place.side, by)
        (want,) = torch.autograd.grad(loss, by)
        torch.testing.assert_close(seen.grads[site], want, atol=1e-10, rtol=1e-8)
        checked += 1
    assert checked >= 3


def test_the_stream_and_what_was_added_to_it_share_their_gradient() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    sites = ["blocks.1.resid_mid", "blocks.1.attn_out", "blocks.1.resid_post", "blocks.1.mlp_out"]
    with capture(model, sites, grad=True) as seen:
        loss_of(model(**inputs).logits).backward()
    mid, attn, post, mlp = (seen.grads[site] for site in sites)
    torch.testing.assert_close(attn, mid)
    torch.testing.assert_close(mlp, post)
    assert not torch.allclose(mid, post)


class Adding(nn.Module):
    """A stream to which one layer adds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer, self.stream = nn.Linear(4, 4), nn.Linear(4, 4), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        before = self.first(x)
        return self.stream(before + self.layer(before)).square()  # type: ignore[no-any-return]


def test_a_difference_has_the_gradient_of_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "added": Difference("after", ("before",)),
        "before": Tap("first"),
        "after": Tap("stream"),
        "layer": Tap("layer"),
    }
    monkeypatch.setattr(watching, "place_of", lambda model, site: table[site])
    monkeypatch.setattr(watching, "resolve", lambda model, sites: tuple(sites))
    model = Adding()
    with capture(model, ["added", "layer"], grad=True) as seen:
        model(torch.ones(2, 4)).sum().backward()
    torch.testing.assert_close(seen["added"], seen["layer"])
    torch.testing.assert_close(seen.grads["added"], seen.grads["layer"])


def test_autograd_grad_works_on_what_was_captured() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    with capture(model, [0, "blocks.1.q", "blocks.2.z"], grad=True) as seen:
        loss = loss_of(model(**inputs).logits)
    got = torch.autograd.grad(loss, [seen[0], seen["blocks.1.q"], seen["blocks.2.z"]])
    for gradient, site in zip(got, seen, strict=True):
        torch.testing.assert_close(gradient, seen.grads[site])


def test_falcon_gradient_is_of_the_content_before_it_is_added_to() -> None:
    model, inputs = families.build("falcon"), families.batch("falcon")
    with torch.no_grad(), capture(model, "blocks.1.mlp_out") as plain:
        model(**inputs)
    with capture(model, ["blocks.1.mlp_out", "blocks.1.resid_post"], grad=True) as seen:
        loss_of(model(**inputs).logits).backward()
    torch.testing.assert_close(seen["blocks.1.mlp_out"], plain["blocks.1.mlp_out"])
    torch.testing.assert_close(seen.grads["blocks.1.mlp_out"], seen.grads["blocks.1.resid_post"])


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "bloom", "gemma2", "bert"])
@pytest.mark.parametrize("part", ["q", "k", "v", "pattern", "z"])
def test_attention_gradients_are_those_of_attention_written_out(name: str, part: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    inputs["attention_mask"] = torch.ones(2, 9, dtype=torch.long)
    inputs["attention_mask"][0, 6:] = 0
    site = f"blocks.1.{part}"
    sites = [f"blocks.1.{x}" for x in ("q", "k", "v", "pattern", "z")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with capture(model, sites, grad=True) as seen:
            loss = loss_of(model(**inputs).logits[:, :6])
            loss.backward()
    # The gradient at z, carried on by hand through z = pattern v.
    gz, v, pattern = seen.grads["blocks.1.z"], seen["blocks.1.v"], seen["blocks.1.pattern"]
    groups = pattern.shape[1] // v.shape[1]
    gz = gz.transpose(1, 2)
    want = {
        "pattern": gz @ v.repeat_interleave(groups, 1).mT,
        "v": (pattern.mT @ gz).unflatten(1, (-1, groups)).sum(2),
    }
    got = seen.grads[site]
    assert got.shape == seen[site].shape
    if part in want:
        torch.testing.assert_close(got, want[part], atol=1e-5, rtol=1e-4)
    assert got.abs().max() > 0


def test_a_pattern_with_gradient_says_that_the_model_ran_another_way() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    plain = model(**inputs).logits
    with (
        pytest.warns(UserWarning, match="continues with attention written out"),
        capture(model, "blocks.1.pattern", grad=True) as seen,
    ):
        logits = model(**inputs).logits
    torch.testing.assert_close(logits, plain)
    assert "eager" in seen.notes[0]


def test_q_and_k_with_gradient_leave_the_kernel_alone() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    plain = model(**inputs).logits
    with capture(model, ["blocks.1.q", "blocks.1.k"], grad=True) as seen:
        assert torch.equal(model(**inputs).logits, plain)
    assert seen.notes == ()


def test_a_frozen_model_has_gradients_at_its_activations() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    with capture(model, "all", grad=True) as seen:
        loss_of(model(**inputs).logits).backward()
    want = dict(seen.grads)
    model.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    with capture(model, "all", grad=True) as seen:
        loss_of(model(**inputs).logits).backward()
    for site, gradient in want.items():
        torch.testing.assert_close(seen.grads[site], gradient)
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_the_users_own_input_is_not_touched() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).requires_grad_(False)
    x = torch.ones(2, 3)
    with capture(model, ["0:in", "1"], grad=True) as seen:
        model(x).sum().backward() if x.requires_grad else model(x)
    assert not x.requires_grad
    assert "requires_grad_()" in seen.notes[0]
    with pytest.raises(LookupError, match=r"no gradient of '0:in'"):
        seen.grads["0:in"]
    with capture(model, ["0:in"], grad=True) as seen:
        model(x.requires_grad_()).sum().backward()
    torch.testing.assert_close(seen.grads["0:in"], x.grad)


def test_several_passes_and_the_latest_backward() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    one, two = torch.ones(1, 3), torch.full((1, 3), 2.0)
    with capture(model, "0", grad=True) as seen:
        out = model(one).sum() + 10 * model(two).sum()
    with pytest.raises(LookupError, match=r"call backward\(\)"):
        seen.grads["0"]
    out.backward(retain_graph=True)
    first, second = seen.grads.passes("0")
    torch.testing.assert_close(second, 10 * first)
    (2 * out).backward()
    torch.testing.assert_close(seen.grads.passes("0")[0], 2 * first)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_need_a_graph(off: type) -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    anatomy(model)
    with (
        pytest.raises(
            RuntimeError, match=r"grad=True, but 'blocks\.0\.resid_post' was computed with"
        ),
        off(),
        capture(model, 0, grad=True),
    ):
        model(**inputs)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_real_model(shared_data: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shared_data / "stories260K" / "hf").eval()
    ids = torch.tensor([[1, 403, 407, 261, 378]])
    with capture(model, "all", grad=True) as seen:
        model(ids, labels=ids).loss.backward()
    states = model(ids, labels=ids, output_hidden_states=True)
    want = torch.autograd.grad(states.loss, states.hidden_states[1:-1])
    for layer, gradient in enumerate(want):
        torch.testing.assert_close(seen.grads[layer], gradient)
