"""Erasing residuals: the planted horizon, exact zeros, plain hooks, costs, bad input."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from layerscope.analyses.erasure import ErasureFinding, erasure
from layerscope.finding import Finding
from layerscope.planted import families
from layerscope.planted.two_hop import ENTITY, LAST, rewired, two_hop

DECODERS = ("llama", "gpt2", "gpt_neox", "gemma2", "mixtral")


def grid(found: ErasureFinding, prompt: int = 0, column: str = "value") -> torch.Tensor:
    """`[L + 1, p]`"""
    cells = found.table[(found.table["scope"] == "token") & (found.table["prompt"] == prompt)]
    shown = cells.pivot(index="layer", columns="position", values=column)
    return torch.tensor(shown.to_numpy(dtype=float))


@pytest.mark.parametrize("by", ["zero", "mean"])
def test_the_planted_horizon_is_the_block_that_copies(by: str) -> None:
    planted = two_hop(1, 3, 5)
    # Six entities and one position after each: at the entity, the mean knows no entity.
    found = erasure(planted.model, planted.prompts, planted.answers.tolist(), by=by, progress=False)
    for prompt in range(6):
        effect, drop = grid(found, prompt), grid(found, prompt, "drop")
        for index in range(9):
            matters = planted.erasure_matters(index)
            assert (effect[index, ENTITY] > 0.1) == matters, index
            assert matters or effect[index, ENTITY] == 0.0
            assert (drop[index, ENTITY] > 0.1) == matters
    assert list(found.profile["layer"]) == list(range(-1, 8))
    assert "last above a tenth of that at blocks.2.resid_post, 3 of 8 blocks deep" in found.answer()


def test_every_setting_of_the_copying_block() -> None:
    """Erased at the entity, the effect is the same up to the copying block, and 0 after it."""
    model = two_hop(0, 0, 0).model
    for b, p, c in product((0, 2), range(8), (4, 7)):
        planted = rewired(model, b, p, c)
        found = erasure(
            model, planted.prompts[:2], planted.answers[:2].tolist(), by="zero", progress=False
        )
        effect = grid(found)[:, ENTITY]
        matters = [planted.erasure_matters(index) for index in range(9)]
        assert [bool(x > 0.1) for x in effect] == matters, (b, p, c)
        if any(matters):
            torch.testing.assert_close(effect[: p + 1], effect[:1].expand(p + 1))
            assert (effect[p + 1 :] == 0).all()


@pytest.mark.parametrize("name", DECODERS)
def test_before_the_head_only_the_last_position_counts(name: str) -> None:
    model = families.build(name)
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    effect = grid(erasure(model, ids, progress=False))
    assert effect.shape == (families.LAYERS + 1, 9)
    # Rows of one batch are rounded differently by where they stand in it, in single precision.
    assert (effect[-1, :-1] < 1e-6).all()
    assert effect[-1, -1] > 0.01
    if name != "gemma2":  # whose window of 4 really hides the first tokens
        assert (effect[:-1] > 1e-5).all()


@pytest.mark.parametrize("name", DECODERS)
def test_a_second_way_by_plain_hooks(name: str) -> None:
    model: Any = families.build(name)
    ids = families.batch(name)["input_ids"][:1]  # type: ignore[call-overload]
    instead = torch.randn(
        families.LAYERS + 1, families.WIDTH, generator=torch.Generator().manual_seed(0)
    )
    effect = grid(erasure(model, ids, [[5, 7]], by=instead, progress=False))
    body = getattr(model, "transformer", None) or getattr(model, "gpt_neox", None) or model.model
    blocks = body.h if name == "gpt2" else body.layers
    whole = torch.cat([ids, torch.tensor([[5]])], 1)
    with torch.no_grad():
        plain = model(whole).logits[0, -2:].softmax(-1)
    for index in range(families.LAYERS + 1):
        for position in range(9):

            def entered(module: Any, args: Any, kwargs: Any) -> Any:
                x = args[0].clone()
                x[:, position] = instead[index]  # noqa: B023  (removed before they change)
                return (x, *args[1:]), kwargs

            def left(module: Any, args: Any, out: Any) -> Any:
                x = (out[0] if isinstance(out, tuple) else out).clone()
                x[:, position] = instead[index]  # noqa: B023
                return (x, *out[1:]) if isinstance(out, tuple) else x

            hook = (
                blocks[0].register_forward_pre_hook(entered, with_kwargs=True)
                if index == 0
                else blocks[index - 1].register_forward_hook(left)
            )
            with torch.no_grad():
                other = model(whole).logits[0, -2:].softmax(-1)
            hook.remove()
            expected = float((other - plain).norm(dim=-1).max())
            assert effect[index, position] == pytest.approx(expected, abs=2e-5), (index, position)


def test_layer_evaluations_are_what_the_formula_says() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"][:1]  # type: ignore[call-overload]
    found = erasure(model, ids, progress=False)
    blocks, length = families.LAYERS, 9
    # Erased at position t and index l: blocks l to L on positions t to T, beside a baseline row.
    share = sum((length - t) / length for t in range(length))
    rows = blocks + sum(blocks - index for index in range(blocks + 1))
    assert found.provenance.parameters["layer_evaluations"] == pytest.approx(blocks + share * rows)


def test_prompts_of_unequal_length_and_a_curve_over_them(tmp_path: Any) -> None:
    model = families.build("llama")
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12], [13, 14]]
    found = erasure(model, prompts, progress=False)
    alone = [
        erasure(model, [p], by=torch.zeros(4, families.WIDTH), progress=False) for p in prompts
    ]
    zero = erasure(model, prompts, by="zero", progress=False)
    for prompt, one in enumerate(alone):
        torch.testing.assert_close(grid(zero, prompt), grid(one))
    curve = zero.profile
    largest = torch.stack([grid(one)[:, :-1].amax(1) for one in alone])
    assert curve["value"].tolist() == pytest.approx(largest.mean(0).tolist(), rel=1e-5)
    again = Finding.load(found.save(tmp_path / "erasure"))
    assert isinstance(again, ErasureFinding)
    assert again.answer() == found.answer()
    assert again.figure().data[-1].y == pytest.approx(found.profile["value"])
    assert len(alone[0].figure().data[0].z) == 3  # a map of three tokens


def test_the_map_has_a_row_for_each_token() -> None:
    planted = two_hop(1, 3, 5)
    found = erasure(planted.model, planted.prompts[:1], by="zero", progress=False)
    heat = found.figure().data[0]
    assert (len(heat.z), len(heat.z[0])) == (2, 9)
    assert heat.z[LAST][8] > 0 == heat.z[ENTITY][8]


def test_layers_are_numbered_as_everywhere_from_embed_at_minus_one() -> None:
    model = families.build("llama")
    found = erasure(model, [[5, 6, 7], [8, 9]], progress=False)
    for layer, site in zip(found.table["layer"], found.table["site"], strict=True):
        assert site == ("embed" if layer == -1 else f"blocks.{layer}.resid_post")
    curve = found.profile
    score = float((curve["layer"] * curve["value"]).sum() / curve["value"].sum())
    assert f"Depth score {score:.1f};" in found.answer()
    assert list(found.figure().data[-1].x) == [-1, 0, 1, 2]


def test_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="reads in both directions"):
        erasure(families.build("bert"), [[5, 6, 7]], progress=False)


def test_refusals() -> None:
    model = families.build("llama")
    with pytest.raises(ValueError, match="by is 'mean', 'zero' or a tensor, not 'noise'"):
        erasure(model, [[5, 6]], by="noise", progress=False)
    with pytest.raises(
        ValueError, match=r"by is \[4, width\], one vector for each layer; got \[3, 32\]"
    ):
        erasure(model, [[5, 6]], by=torch.zeros(3, 32), progress=False)
    with pytest.raises(ValueError, match="there are 1 prompts, but the answers are 2"):
        erasure(model, [[5, 6]], [3, 4], progress=False)
