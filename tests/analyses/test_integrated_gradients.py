"""Integrated gradients: exact where the function is linear, complete, and equal to plain loops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from layerscope.analyses.integrated_gradients import (
    IntegratedGradientsFinding,
    integrated_gradients,
    path,
)
from layerscope.finding import Finding
from layerscope.hooks.load import load_model
from layerscope.hooks.replay import record
from layerscope.planted import families
from layerscope.planted.linear_stack import linear_stack

DECODERS = ("llama", "gpt2", "gpt_neox", "gemma2")


@pytest.mark.parametrize("rule", ["middle", "left", "gauss"])
@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_linear_function_is_exact_with_any_steps(rule: str, steps: int) -> None:
    """In the planted linear decoder a logit is linear in the stream; by algebra, not by gradients."""
    generator = torch.Generator().manual_seed(0)
    table, *matrices = (
        torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (9, 5, 5, 5)
    )
    model = linear_stack(table, mlp=[0.5 * m for m in matrices])
    run = record(model, torch.tensor([3, 1, 4, 1, 5]), keep="all")
    for layer in range(3):
        found = path(
            run, f"blocks.{layer}.resid_post", lambda x: x[:, 0, 2], last=1, steps=steps, rule=rule
        )
        rest = torch.eye(5, dtype=torch.float64)
        for later in matrices[layer + 1 :]:
            rest = (torch.eye(5, dtype=torch.float64) + 0.5 * later) @ rest
        states = run[f"blocks.{layer}.resid_post"][0, :, :5]
        moved = states[-1] - states.mean(0)
        expected = torch.zeros(5, dtype=torch.float64)
        expected[-1] = (rest @ moved)[2]  # no attention: only the last position is read
        torch.testing.assert_close(found.attribution.double(), expected, rtol=1e-5, atol=1e-6)
        assert abs(found.error) < 1e-5


@pytest.mark.parametrize("name", DECODERS)
def test_a_second_way_by_plain_torch(name: str) -> None:
    model: Any = families.build(name)
    ids = families.batch(name)["input_ids"][:1]  # type: ignore[call-overload]
    found = integrated_gradients(model, ids, [[5, 7]], steps=6, progress=False)
    cells = found.table[found.table["scope"] == "token"]
    whole = torch.cat([ids, torch.tensor([[5]])], 1)
    body = getattr(model, "transformer", None) or getattr(model, "gpt_neox", None) or model.model
    blocks = body.h if name == "gpt2" else body.layers

    def score(layer: int, value: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the two answer tokens' probabilities with a block's output replaced; the output."""
        seen: list[torch.Tensor] = []

        def left(module: Any, args: Any, out: Any) -> Any:
            seen.append((out[0] if isinstance(out, tuple) else out).detach())
            if value is None:
                return None
            return (value, *out[1:]) if isinstance(out, tuple) else value

        hook = blocks[layer].register_forward_hook(left)
        p = model(whole).logits[0, -2:].softmax(-1)
        hook.remove()
        return p[0, 5] + p[1, 7], seen[0]

    for layer in range(families.LAYERS):
        _, h = score(layer, None)
        start = h.mean(1, keepdim=True).expand_as(h)
        total = torch.zeros_like(h)
        for step in range(6):
            x = (start + (step + 0.5) / 6 * (h - start)).requires_grad_()
            total += torch.autograd.grad(score(layer, x)[0], x)[0] / 6
        expected = (total * (h - start)).sum(-1)[0]
        own = cells[cells["layer"] == layer].sort_values("position")
        assert own["value"].tolist() == pytest.approx(expected[:9].tolist(), abs=1e-6)
        with torch.no_grad():
            reached, begun = (float(score(layer, x)[0]) for x in (h, start.contiguous()))
        assert own["reached"].iloc[0] == pytest.approx(reached, abs=1e-6)
        assert own["start"].iloc[0] == pytest.approx(begun, abs=1e-6)
        error = float(expected.sum()) - (reached - begun)
        assert own["error"].iloc[0] == pytest.approx(error, abs=1e-6)


@pytest.fixture(scope="module")
def story(shared_data: Any) -> Any:
    model = load_model(shared_data / "stories260K" / "hf")
    from layerscope.hooks.prompts import as_prompts

    ids = as_prompts(model, "Tom had a red ball. He liked to play with it in the").ids[0]
    run = record(model, ids, keep="all")
    wanted = int(run.logits[0, -1].argmax())

    def error(steps: int, rule: str, layer: int = 1) -> float:
        site = f"blocks.{layer}.resid_post"
        found = path(
            run, site, lambda x: x[:, 0].softmax(-1)[:, wanted], last=1, steps=steps, rule=rule
        )
        return found.error

    return error


def test_the_left_rule_is_off_by_a_share_of_one_step(story) -> None:
    errors = [story(steps, "left") for steps in (64, 128, 256)]
    assert abs(errors[2]) > 1e-4
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_twenty_midpoints_beat_256_left_ends(story) -> None:
    for layer in range(4):
        assert abs(story(20, "middle", layer)) < abs(story(256, "left", layer))


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_sublayers_are_complete_too(part: Any) -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"][:1]  # type: ignore[call-overload]
    found = integrated_gradients(model, ids, [5], part=part, steps=64, progress=False)
    cells = found.table[found.table["scope"] == "token"]
    assert cells["error"].abs().max() < 1e-4
    for _, layer in cells.groupby("layer"):
        difference = layer["reached"].iloc[0] - layer["start"].iloc[0]
        assert layer["value"].sum() == pytest.approx(difference, abs=1e-4)


def test_the_model_is_left_without_gradients() -> None:
    model = families.build("gpt2")
    ids = families.batch("gpt2")["input_ids"]  # type: ignore[call-overload]
    integrated_gradients(model, ids, [5, 6], steps=3, progress=False)
    assert all(p.grad is None for p in model.parameters())


def test_layer_evaluations_are_counted() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"][:1]  # type: ignore[call-overload]
    found = integrated_gradients(model, ids, [5], steps=4, progress=False)
    blocks = families.LAYERS
    after = sum(blocks - 1 - layer for layer in range(blocks))
    # Forward and backward of 4 steps, then both ends of the path; a baseline row in each batch.
    expected = blocks + after * (3 * (4 + 1) + (2 + 1))
    assert found.provenance.parameters["layer_evaluations"] == expected


def test_saved_and_drawn(tmp_path: Any) -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    found = integrated_gradients(model, ids, [5, 6], steps=4, progress=False)
    again = Finding.load(found.save(tmp_path / "ig"))
    assert isinstance(again, IntegratedGradientsFinding)
    assert again.answer() == found.answer()
    assert "2 prompts" in again.answer()
    assert again.figure().data[-1].y == pytest.approx(found.profile["value"])
    one = integrated_gradients(model, ids[:1], [5], steps=4, progress=False).figure().data[0]
    assert one.zmin == -one.zmax


def test_too_few_steps_are_said() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"][:1]  # type: ignore[call-overload]
    few, many = (
        integrated_gradients(model, ids, [5], steps=n, rule=r, progress=False)
        for n, r in ((2, "left"), (64, "middle"))
    )
    assert any("more steps are needed" in note for note in few.notes)
    assert not any("more steps are needed" in note for note in many.notes)


def test_refusals() -> None:
    model = families.build("llama")
    with pytest.raises(ValueError, match="part is one of block, attention, mlp and rule one of"):
        integrated_gradients(model, [[5, 6]], [3], part="head", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 steps, not 1"):
        integrated_gradients(model, [[5, 6]], [3], steps=1, progress=False)


def test_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="reads in both directions"):
        integrated_gradients(families.build("bert"), [[5, 6, 7]], [8], progress=False)
