"""Dropping parts: planted orders, losses of models that were really cut, controls, refusals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.analyses.layer_drop import layer_drop
from layerscope.analyses.material.texts import Texts, as_texts
from layerscope.analyses.skipping.drop_losses import Losses
from layerscope.analyses.skipping.drop_orders import (
    at_random,
    by_loss,
    by_similarity,
    consecutive,
    cosines,
    iterative,
    one_shot,
)
from layerscope.analyses.skipping.layer_drop_finding import DropFinding
from layerscope.finding import Finding
from layerscope.hooks.bypass import Part
from layerscope.hooks.edits import edit, skip
from layerscope.planted import families
from layerscope.planted.linear_stack import linear_stack
from layerscope.planted.turns import circling

LENGTHS = [9, 9, 6, 7, 4, 8, 5, 12]


def some_ids() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 61, (n,), generator=generator).tolist() for n in LENGTHS]


def texts_of(model: Any) -> Texts:
    return as_texts(model, some_ids())


def drop(model: Any, **options: Any) -> DropFinding:
    options = {"speed": False, "progress": False} | options
    return layer_drop(model, some_ids(), **options)


def loss_of(model: Any, ids: list[int]) -> float:
    """Summed next-token loss of one text."""
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1]
    loss = nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")
    return float(loss)


# Losses


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_losses_are_those_of_a_model_whose_blocks_are_gone(family: str) -> None:
    model: Any = families.build(family)
    losses = Losses(model, texts_of(model))
    sets: list[list[Part]] = [[], [("block", 1)], [("block", 0), ("block", 2)]]
    sums = losses.of(sets)
    holder = model.transformer if family == "gpt2" else model.model
    name = "h" if family == "gpt2" else "layers"
    own = list(getattr(holder, name))
    kinds = getattr(model.config, "layer_types", None)
    for row, dropped in zip(sums, sets, strict=True):
        kept = [i for i in range(3) if ("block", i) not in dropped]
        setattr(holder, name, nn.ModuleList([own[i] for i in kept]))
        model.config.num_hidden_layers = len(kept)
        if kinds:
            model.config.layer_types = [kinds[i] for i in kept]
        expected = [loss_of(model, ids) for ids in some_ids()]
        setattr(holder, name, nn.ModuleList(own))
        model.config.num_hidden_layers = 3
        if kinds:
            model.config.layer_types = kinds
        assert row == pytest.approx(expected, abs=1e-3, rel=1e-5)
    assert losses.counts == pytest.approx([n - 1 for n in LENGTHS])


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "mixtral", "gptj"])
def test_losses_without_sublayers_equal_plain_hooks(family: str) -> None:
    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.places import module_at

    model: Any = families.build(family)
    sums = Losses(model, texts_of(model)).of([[("attention", 0), ("mlp", 2)]])
    blocks = anatomy(model).blocks

    def nothing(module: nn.Module, args: Any, out: Any) -> Any:
        if isinstance(out, tuple):
            return (torch.zeros_like(out[0]), *out[1:])
        return torch.zeros_like(out)

    for path in (blocks[0].attn, blocks[2].mlp):
        module_at(model, str(path)).register_forward_hook(nothing)
    expected = [loss_of(model, ids) for ids in some_ids()]
    assert sums[0] == pytest.approx(expected, abs=1e-3, rel=1e-5)


def test_what_adds_nothing_goes_first_and_changes_not_one_bit() -> None:
    model: Any = families.build("llama")
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    found = drop(model, part="joint", most=4, orders=["one-shot", "iterative"])
    for order in ("one-shot", "iterative"):
        curve = found.curve(order).set_index("dropped")
        named = set(curve.loc[3, "which"].split(", "))
        assert named == {"attention 0", "attention 2", "MLP 1"}
        assert curve.loc[3, "added"] == pytest.approx(0, abs=1e-7)
        assert abs(curve.loc[4, "added"]) > 1e-3
    ids = torch.tensor([some_ids()[0]])
    whole = model(ids).logits
    sites = ("blocks.0.attn_out", "blocks.2.attn_out", "blocks.1.mlp_out")
    with edit(model, {site: skip() for site in sites}):
        assert torch.equal(model(ids).logits, whole)


# Orders


def test_three_turns_of_120_degrees_go_only_as_a_run() -> None:
    model = circling((100, 80, 1, 120, 120, 120, 70))
    texts = texts_of(model)
    runs = consecutive(cosines(model, texts, []), 3)
    assert runs[2] == [("block", 3), ("block", 4), ("block", 5)]
    assert runs[0] == [("block", 2)]
    score = by_similarity(model, texts, ["block"])
    singly = one_shot(score, 4)[-1]
    assert not {("block", 3), ("block", 4), ("block", 5)} & set(singly)


def test_iterative_scores_the_model_that_is_left() -> None:
    """Block 0 writes a little into coordinate 3, from which block 2 makes much: without block 0,
    block 2 adds nothing, and goes before block 1."""

    def step(source: int, target: int, gain: float) -> torch.Tensor:
        matrix = torch.zeros(4, 4)
        matrix[target, source] = gain
        return matrix

    model = linear_stack(
        [[1.0, 0, 0, 0]] * 61, mlp=[step(0, 3, 0.05), step(0, 1, 0.1), step(3, 2, 100)]
    )
    score = by_similarity(model, texts_of(model), ["block"])
    first, second, third = (("block", i) for i in range(3))
    assert one_shot(score, 2) == [[first], [first, second]]
    assert iterative(score, 2) == [[first], [first, third]]
    assert score([first])[third] == pytest.approx(0, abs=1e-9)


def test_dropped_parts_are_gone_from_the_scores() -> None:
    model = families.build("llama")
    texts = texts_of(model)
    score = by_similarity(model, texts, ["attention", "mlp"])
    dropped: list[Part] = [("mlp", 0)]
    again = score(dropped)
    assert ("mlp", 0) not in again
    found = cosines(model, texts, dropped)
    gone = [i for i, p in enumerate(found.pairs) if (p.part, p.layer) == ("mlp", 0)]
    assert (found.sums[:, :, gone].sum(0) == found.counts.sum(0)[:, None]).all()  # cosine 1
    whole = score([])
    assert again[("attention", 1)] != pytest.approx(whole[("attention", 1)], abs=1e-4)


def test_by_loss_takes_what_costs_least() -> None:
    model = families.build("llama")
    losses = Losses(model, texts_of(model))
    candidates: list[Part] = [("block", i) for i in range(3)]
    score = by_loss(losses, candidates)
    sums = losses.of([[part] for part in candidates]).sum(1) / losses.counts.sum()
    assert score([]) == pytest.approx(dict(zip(candidates, sums.tolist(), strict=True)))
    assert one_shot(score, 1)[0] == [candidates[int(sums.argmin())]]
    found = drop(model, by="loss", most=2)
    assert set(found.table["order"]) == {"none", "one-shot", "iterative", "random"}


def test_random_choices_are_nested_and_seeded() -> None:
    candidates: list[Part] = [("block", i) for i in range(9)]
    draws = at_random(candidates, 5, 3, seed=1)
    assert draws == at_random(candidates, 5, 3, seed=1)
    assert draws != at_random(candidates, 5, 3, seed=2)
    for several in draws:
        assert [len(dropped) for dropped in several] == [1, 2, 3, 4, 5]
        assert all(a == b[: len(a)] for a, b in pairwise(several))
        assert len(set(several[-1])) == 5


# The finding


def test_the_table_holds_losses_controls_and_halves() -> None:
    model = families.build("llama")
    found = drop(model, most=2, random=3)
    table = found.table
    assert list(table["dropped"]).count(1) == 3 + 3
    none = table[table["order"] == "none"].iloc[0]
    assert none["added"] == 0
    assert (table["baseline"] == none["value"]).all()
    random = table[(table["order"] == "random") & (table["dropped"] == 2)]
    assert random["null_mean"].iloc[0] == pytest.approx(random["value"].mean())
    assert random["null_sd"].iloc[0] == pytest.approx(random["value"].std())
    assert any("chosen on 4 texts and measured on 4 others" in note for note in found.notes)
    assert "time" not in table
    inside = (table["ci_low"] <= table["value"]) & (table["value"] <= table["ci_high"])
    assert inside.all()
    assert list(table["added"]) == pytest.approx(list(table["value"] - table["baseline"]), abs=1e-9)
    assert ((table["added_low"] <= table["added"]) & (table["added"] <= table["added_high"])).all()


def test_time_is_measured_on_the_model_that_is_really_reduced(tmp_path: Any) -> None:
    found = drop(families.build("llama"), speed=True, most=2)
    assert found.table.loc[found.table["dropped"] == 2, "time"].between(0.05, 3).all()
    assert any("without a cache" in note for note in found.notes)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert again.answer() == found.answer()
    assert "of the time" in found.answer() or "None" in found.answer()
    assert len(found.figure().data) > 6


def test_a_part_that_is_no_module_has_no_time_and_says_so() -> None:
    found = drop(families.build("mamba"), part="attention", speed=True, most=1)
    assert "time" in found.table or any("Time was not measured" in n for n in found.notes)


def test_the_model_comes_back_as_it_was() -> None:
    model = families.build("gpt2").train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    drop(model, speed=True, part="joint", most=2)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_does_not_fit_is_refused() -> None:
    model = families.build("llama")
    with pytest.raises(ValueError, match="part is block, attention, mlp, joint, not 'norm'"):
        drop(model, part="norm")
    with pytest.raises(ValueError, match="by is similarity or loss, not 'size'"):
        drop(model, by="size")
    with pytest.raises(ValueError, match="'consecutive' is for blocks by similarity"):
        drop(model, part="joint", orders=["consecutive"])
    with pytest.raises(ValueError, match="orders are one-shot, iterative, consecutive, not 'all'"):
        drop(model, orders=["all"])
    with pytest.raises(ValueError, match="most is 1 to 2 of 3 parts, not 3"):
        drop(model, most=3)
    with pytest.raises(ValueError, match="see later ones, so it has no next-token loss"):
        drop(families.build("bert"))
    with pytest.raises(ValueError, match="is one group"):
        layer_drop(model, [some_ids()[0]], progress=False)


def test_one_order_may_stand_alone_and_one_group_has_no_interval() -> None:
    model = families.build("llama")
    found = drop(model, orders="iterative")
    assert set(found.table["order"]) == {"none", "random", "iterative"}
    few = layer_drop(model, some_ids()[:2], speed=False, progress=False)
    assert "nan" not in few.answer()
