"""Anatomy leaves no trace, says when something is wrong, and describes plain modules."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks import anatomy as anatomy_module
from layerscope.hooks.anatomy import Anatomy, Check, anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.locating.checks import FINITE, LOGITS, STREAM, SUMS, UNEMBED
from layerscope.hooks.places import Tap
from layerscope.planted.families import batch, build


def check(found: Anatomy, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Block(nn.Module):
    """A pre-norm MLP block; `twist` is added where no module shows it."""

    def __init__(self, width: int, twist: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.twist = twist

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x)) + self.twist * torch.tanh(x)


class Plain(nn.Module):
    """A stack of blocks that declares nothing about itself."""

    def __init__(self, blocks: list[nn.Module], between: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(8)
        self.unembed = nn.Linear(8, 11)
        self.between = between

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x) * self.between
        return self.unembed(self.norm(x))


def plain(**settings: Any) -> Plain:
    torch.manual_seed(0)
    twist = settings.pop("twist", 0.0)
    return Plain([Block(8, twist), Block(8), Block(8)], **settings)


IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize("family", ["gpt2", "bloom", "mamba", "t5", "albert"])
def test_model_comes_back_as_it_was(family: str) -> None:
    model = build(family).train()
    some = next(
        m for m in model.modules() if isinstance(m, nn.LayerNorm) or "Norm" in type(m).__name__
    )
    some.eval()  # one module in another mode than the rest
    modes = [m.training for m in model.modules()]
    weights = {name: p.detach().clone() for name, p in model.state_dict().items()}
    config, hooks, random = model.config.to_dict(), hooks_on(model), torch.get_rng_state()
    anatomy(model)
    assert [m.training for m in model.modules()] == modes
    assert hooks_on(model) == hooks
    assert torch.equal(torch.get_rng_state(), random)
    assert model.config.to_dict() == config
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_looks_in_eval_mode_and_draws_from_a_forked_generator() -> None:
    model = build("gpt2").train()
    modes: list[bool] = []

    def look(module: nn.Module, *_: Any) -> None:
        modes.append(module.training)
        torch.rand(3)  # whatever a model draws must not move the user's generator

    for module in model.modules():
        module.register_forward_hook(look)
    state = torch.get_rng_state()
    anatomy(model)
    assert set(modes) == {False}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "llama"])
def test_contributions_hold_in_train_mode_with_dropout(family: str) -> None:
    model = build(family)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    names = [f"blocks.1.{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    with capture(model.train(), names) as seen:
        model(**batch(family))
    total = sum(seen[name] for name in names[:3])
    torch.testing.assert_close(total, seen[names[3]])


def test_a_hook_that_raises_leaves_no_hook_behind() -> None:
    model = plain()
    mine = model.norm.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division"):
        anatomy(model, example=IDS)
    mine.remove()
    assert hooks_on(model) == 0


def test_works_under_inference_mode_and_autocast() -> None:
    with torch.inference_mode():
        assert anatomy(build("llama")).passed
    with torch.autocast("cpu", torch.bfloat16):
        assert anatomy(build("gpt2")).passed


def test_remembered_until_a_module_is_replaced() -> None:
    model = build("gpt2")
    first = anatomy(model)
    assert anatomy(model) is first
    model.transformer.h[1] = model.transformer.h[0]
    second = anatomy(model)
    assert second is not first
    assert second.blocks[1].path == "transformer.h.0"
    assert second.blocks[1].call == 1
    assert second.passed


def test_the_memory_does_not_keep_the_model_alive() -> None:
    model = build("gpt2")
    anatomy(model)
    gone = weakref.ref(model)
    size = len(anatomy_module._known)
    del model
    gc.collect()
    assert gone() is None
    assert len(anatomy_module._known) < size


def test_one_block_listed_three_times() -> None:
    torch.manual_seed(0)
    block = Block(8)
    found = anatomy(Plain([block, block, block]), example=IDS)
    assert found.passed
    assert [(b.path, b.call) for b in found.blocks] == [("blocks.0", i) for i in range(3)]
    assert found.sites["blocks.2.resid_post"] == Tap("blocks.0", call=2)


def test_nan_weights_are_named_and_other_blocks_still_read() -> None:
    model = build("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    found = anatomy(model)
    verdict = check(found, FINITE)
    assert verdict.passed is False
    assert "model.layers.1.mlp.up_proj" in verdict.detail
    assert "not finite themselves: model.layers.1.mlp.up_proj.weight" in verdict.detail
    assert check(found, SUMS).passed is None
    # Blocks 1 and 2 are laid out like block 0, which could be read.
    assert found.sites["blocks.2.attn_out"] == Tap("model.layers.2.self_attn")
    assert found.sites["blocks.1.resid_mid"] == Tap("model.layers.1.post_attention_layernorm", "in")


def test_plain_stack_is_checked_with_an_example() -> None:
    found = anatomy(plain(), example=IDS)
    assert found.passed
    assert (found.embed, found.norm, found.unembed) == ("embed", "norm", "unembed")
    assert found.sites["blocks.1.mlp_out"] == Tap("blocks.1.mlp")
    assert found.sites["blocks.1.mlp_act"] == Tap("blocks.1.mlp.2", "in")
    assert check(found, LOGITS).passed


def test_an_addition_that_no_module_shows_fails_the_sum() -> None:
    verdict = check(anatomy(plain(twist=0.3), example=IDS), SUMS)
    assert verdict.passed is False
    assert "blocks 0" in verdict.detail


def test_a_stream_changed_between_blocks_fails() -> None:
    verdict = check(anatomy(plain(between=0.9), example=IDS), STREAM)
    assert verdict.passed is False
    assert verdict.error == pytest.approx(0.1 / 0.9, rel=1e-3)


def test_logits_of_an_unknown_function_fail() -> None:
    model = build("gpt2")

    def cube(module: nn.Module, args: Any, output: Any) -> Any:
        output.logits = output.logits**3
        return output

    with_cube = model.register_forward_hook(cube)
    verdict = check(anatomy(model), LOGITS)
    with_cube.remove()
    assert verdict.passed is False
    assert "another function" in verdict.detail


def test_something_between_norm_and_unembedding_fails() -> None:
    model = build("gpt2")
    mine = model.lm_head.register_forward_pre_hook(lambda m, args: (torch.tanh(args[0]),))
    verdict = check(anatomy(model), UNEMBED)
    mine.remove()
    assert verdict.passed is False
    assert "not transformer.ln_f" in verdict.detail


def test_without_example_a_plain_model_is_described_by_structure() -> None:
    found = anatomy(plain())
    assert [b.path for b in found.blocks] == ["blocks.0", "blocks.1", "blocks.2"]
    assert {c.passed for c in found.checks} == {None}
    assert all("pass example=" in c.detail for c in found.checks)
    assert found.passed  # nothing failed; nothing was run either


@pytest.mark.parametrize("family", ["cnn", "sequential"])
def test_plain_sequences_have_blocks_and_no_false_verdict(family: str) -> None:
    found = anatomy(build(family), example=batch(family))
    assert len(found.blocks) == 5
    assert found.passed
    assert check(found, SUMS).passed is None
    assert check(found, STREAM).passed is True


def test_a_model_without_containers_lists_its_modules() -> None:
    found = anatomy(build("lstm"), example=batch("lstm"))
    assert found.blocks == ()
    assert found.modules == ("rnn", "readout")
    assert found.shapes["readout"] == "b 7 5"
    assert check(found, FINITE).passed is True


def test_meta_device_is_located_by_structure() -> None:
    with torch.device("meta"):
        model = build("llama")
    found = anatomy(model)
    assert [b.path for b in found.blocks] == [f"model.layers.{i}" for i in range(3)]
    assert "meta device" in found.checks[0].detail


def test_a_refused_made_up_input_is_a_verdict() -> None:
    model = build("gpt2")
    mine = model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("needs more")))
    found = anatomy(model)
    mine.remove()
    assert "needs more" in found.checks[0].detail
    assert len(found.blocks) == 3


def test_wrapped_model_is_seen_through() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("llama")

        def forward(self, **inputs: Tensor) -> Any:
            return self.inner(**inputs)

    found = anatomy(Wrapper())
    assert found.passed
    assert found.blocks[0].path == "inner.model.layers.0"
    assert found.unembed == "inner.lm_head"


def test_base_model_has_no_head_and_says_so() -> None:
    found = anatomy(build("gpt2").transformer)
    assert found.passed
    assert found.norm == "ln_f"
    assert found.unembed is None
    assert check(found, LOGITS).detail == "no unembedding in this model"


def test_only_modules_and_batches_are_accepted() -> None:
    with pytest.raises(TypeError, match=r"reads a torch nn\.Module, got str"):
        anatomy("gpt2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="example must be a tensor, a tuple"):
        anatomy(plain(), example=3)


def test_prints_a_tree_and_html() -> None:
    found = anatomy(build("gpt2"))
    text = str(found)
    assert "blocks.0..2  transformer.h.0 .. transformer.h.2: attn + mlp" in text
    assert "\n    blocks.0.resid_mid        b p 32        transformer.h.0.ln_2:in" in text
    columns = {line.index("b p 32") for line in text.splitlines() if "b p 32 " in line}
    assert len(columns) == 1, "sites of the model and of a block stand in the same columns"
    assert "ok     logits follow from the unembedding" in text
    assert "<details>" in found._repr_html_()
