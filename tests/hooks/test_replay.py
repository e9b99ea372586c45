"""Replays continue a recorded pass exactly: the same numbers as a whole pass with hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.replay import Recording, lanes, record
from layerscope.planted import families

DECODERS = [*families.names("decoder"), "mamba"]
CACHED = [name for name in DECODERS if name != "mamba"]
WITHOUT_BLOCKS = ["rwkv", "t5"]
STACKS = [*DECODERS, "bert", "roberta", "distilbert", "albert", "vit", "bart", "whisper"]
EXACT = 2e-6


@contextmanager
def written(model: nn.Module, block: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The output of one block changed by a plain forward hook: the reference for everything here."""
    found = anatomy(model).blocks[block]
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 != found.call:
            return output
        if isinstance(output, Tensor):
            return change(output)
        return (change(output[0]), *output[1:])

    handle = model.get_submodule(found.path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def put_at(at: Any, value: Tensor) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        new = x.clone()
        new[:, at] = value
        return new

    return change


def logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def value_for(run: Recording, seed: int = 0, positions: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(run), positions, *run["blocks.0.resid_post"].shape[2:])
    return torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("name", STACKS)
def test_the_record_is_the_untouched_pass(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    before = logits(model, batch)
    run = record(model, batch)
    if name == "mpt":  # with a cache it computes its biases in another order
        assert (run.logits - before).abs().max() < EXACT
    else:
        assert torch.equal(run.logits, before)
    assert torch.equal(logits(model, batch), before)
    assert run.exact


@pytest.mark.parametrize("at", [-1, 3, [2, 5]])
@pytest.mark.parametrize("name", DECODERS)
def test_replay_equals_a_whole_pass_with_hooks(name: str, at: Any) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    positions = [at] if isinstance(at, int) else at
    value = value_for(run, positions=len(positions))
    for block in range(run.n_blocks):
        out = run.replay(f"blocks.{block}.resid_post", value, at=at)
        with written(model, block, put_at(positions, value)):
            expected = logits(model, batch)
        assert out.exact, out.notes
        assert (out.logits - expected[:, out.positions.start :]).abs().max() < EXACT
        assert out.noise < EXACT


@pytest.mark.parametrize("name", [x for x in STACKS if x not in DECODERS])
def test_replay_of_models_that_see_both_ways_and_of_encoder_decoders(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    value = value_for(run)
    for block in range(run.n_blocks):
        out = run.replay(f"blocks.{block}.resid_post", value, at=2)
        with written(model, block, put_at([2], value)):
            expected = logits(model, batch)
        assert out.exact, out.notes
        assert (out.logits - expected).abs().max() < EXACT


@pytest.mark.parametrize("name", WITHOUT_BLOCKS)
def test_where_blocks_cannot_be_run_alone_hooks_give_the_same(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    value = value_for(run)
    for block in range(run.n_blocks):
        out = run.replay(f"blocks.{block}.resid_post", value, at=2)
        with written(model, block, put_at([2], value)):
            expected = logits(model, batch)
        assert (out.logits - expected).abs().max() < EXACT
    assert not out.exact
    assert "whole passes with hooks" in out.notes[0]
    assert not run.exact


def test_blocks_before_are_not_run_and_positions_before_are_not_computed() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    seen: dict[int, list[torch.Size]] = {i: [] for i in range(run.n_blocks)}
    handles = [
        model.get_submodule(block.path).register_forward_hook(
            lambda module, args, output, i=block.index: seen[i].append(output.shape)
        )
        for block in anatomy(model).blocks
    ]
    out = run.replay("blocks.0.resid_post", value_for(run), at=6)
    for handle in handles:
        handle.remove()
    rows, left = 2 * len(run), run.length - 6
    assert seen == {0: [], 1: [(rows, left, 32)], 2: [(rows, left, 32)]}
    assert out.positions == range(6, run.length)
    assert out.evaluations == pytest.approx(rows * 2 * left / run.length, abs=1e-12)
    assert out.block_calls == 2


@pytest.mark.parametrize("name", DECODERS)
def test_all_single_skips_in_one_pass_cost_what_the_formula_says(name: str) -> None:
    model, batch = families.build(name), {"input_ids": families.batch(name)["input_ids"][:1]}
    blocks = len(anatomy(model).blocks)
    skips = [{f"blocks.{s}.resid_post": edits.skip()} for s in range(blocks)]
    out = lanes(model, batch, skips)
    assert out.exact, out.notes
    assert out.evaluations == blocks + blocks * (blocks - 1) / 2
    assert out.block_calls == blocks
    plain = logits(model, batch)
    assert (out.baseline - plain).abs().max() < EXACT
    for s in range(blocks):
        with skipped(model, s):
            expected = logits(model, batch)
        assert (expected - plain).abs().max() > 1e-3
        assert (out.logits[s] - expected[0]).abs().max() < EXACT


@contextmanager
def skipped(model: nn.Module, block: int) -> Iterator[None]:
    """A block replaced by the identity, by two plain hooks."""
    entered: list[Tensor] = []
    module = model.get_submodule(anatomy(model).blocks[block].path)

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        entered.append((args[0] if args else kwargs["hidden_states"]).clone())

    handle = module.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        with written(model, block, lambda x: entered[-1]):
            yield
    finally:
        handle.remove()


def test_back_patching_all_pairs_costs_what_the_formula_says() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"][:1]
    run = record(model, ids)
    count, length = run.n_blocks, run.length
    what_ifs, of = [], []
    for target in range(count - 1):
        sources = [run[f"blocks.{s}.resid_post"][:, -1:] for s in range(target + 1, count)]
        change = edits.set_to(torch.cat(sources), at=-1)
        what_ifs.append({f"blocks.{target}.resid_post": change})
        of.append([0] * len(sources))
    out = run.lanes(what_ifs, of=of)
    lanes_cost = (count - 1) * count * (2 * count - 1) / 6 / length
    baseline_cost = (count - 1) / length
    assert out.evaluations == pytest.approx(lanes_cost + baseline_cost, abs=1e-12)
    row = 0
    for target in range(count - 1):
        for source in range(target + 1, count):
            state = run[f"blocks.{source}.resid_post"][:, -1]
            with written(model, target, put_at(-1, state)):
                expected = logits(model, {"input_ids": ids})
            assert (out.logits[row] - expected[0, -1:]).abs().max() < EXACT
            row += 1
    assert row == len(out)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "bert"])
def test_source_equal_to_target_is_the_baseline_exactly(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    for block in range(run.n_blocks):
        site = f"blocks.{block}.resid_post"
        out = run.replay(site, run[site][:, -1:], at=-1)
        assert torch.equal(out.logits, out.baseline)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gptj", "bloom", "mixtral", "falcon"])
def test_left_padded_prompts_are_what_they_are_alone(name: str) -> None:
    model = families.build(name)
    ids = families.batch(name)["input_ids"]
    short, long = ids[:1, :5], ids[1:]
    padded = torch.cat([torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1), long])
    mask = torch.tensor([[0] * 4 + [1] * 5, [1] * 9])
    both = record(model, {"input_ids": padded, "attention_mask": mask})
    assert name == "bloom" or "padded" in both.notes[0]
    value = value_for(both, seed=3)
    out = both.replay("blocks.1.resid_post", value, at=-2)
    for row, alone in enumerate((short, long)):
        single = record(model, alone).replay("blocks.1.resid_post", value[row : row + 1], at=-2)
        assert (out.logits[row] - single.logits[0]).abs().max() < 5e-6


def test_a_small_budget_changes_nothing_but_the_batches() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    changes = [
        {f"blocks.{block}.{part}": edits.zero(at=position)}
        for block in range(3)
        for part in ("attn_out", "mlp_out", "resid_post")
        for position in (2, 7)
    ]
    keep = ["blocks.2.resid_post", "blocks.1.mlp_out", "norm"]
    whole = run.lanes(changes, keep=keep)
    pieces = run.lanes(changes, keep=keep, budget=1)
    assert len(whole) == len(changes) * 2
    assert pieces.block_calls > whole.block_calls
    for name in ("logits", "baseline"):
        assert (getattr(whole, name) - getattr(pieces, name)).abs().max() < EXACT
    for site in keep:
        assert whole[site].shape[:2] == (len(whole), len(whole.positions))
        assert (whole[site] - pieces[site]).abs().max() < EXACT
        assert (whole.base[site] - pieces.base[site]).abs().max() < EXACT
    assert torch.equal(whole.of, pieces.of)


@pytest.mark.parametrize("name", DECODERS)
def test_several_changes_at_once_inside_blocks_equal_edit(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    changes = {
        "blocks.1.mlp_out": edits.scale(0.5, at=[4, 6]),
        "blocks.2.resid_post": edits.add(direction, at=7),
    }
    if name == "mamba":
        changes = {"blocks.1.attn_out": edits.scale(0.5), **dict([list(changes.items())[1]])}
    out = run.lanes([changes, {"blocks.0.resid_post": edits.zero(at=8)}])
    with edits.edit(model, changes):
        expected = logits(model, batch)
    first = out.what_if == 0
    assert (out.logits[first] - expected[:, out.positions.start :]).abs().max() < EXACT


def test_kept_sites_hold_what_a_whole_pass_has() -> None:
    from layerscope.hooks.capture import capture

    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    keep = ["blocks.0.mlp_out", "blocks.1.resid_mid", "blocks.2.resid_pre", "blocks.2.pattern"]
    changes = {"blocks.1.attn_out": edits.zero()}
    out = run.lanes([changes], keep=keep)
    with edits.edit(model, changes), capture(model, keep) as seen, torch.no_grad():
        model(**batch)
    for site in keep:
        assert (out[site] - seen[site]).abs().max() < EXACT, site
    with pytest.raises(LookupError, match=r"not kept; ask with keep=\['norm'\]"):
        out["norm"]


def test_gradients_flow_through_a_replay() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    value = value_for(run).requires_grad_()
    out = run.replay("blocks.1.resid_post", value, at=5, grad=True)
    out.logits[:, -1, 7].sum().backward()
    again = value.detach().clone().requires_grad_()
    with written(model, 1, put_at([5], again)):
        model(**batch).logits[:, -1, 7].sum().backward()
    assert again.grad is not None
    assert value.grad is not None
    assert again.grad.abs().max() > 1e-3
    assert (value.grad - again.grad).abs().max() < EXACT


@pytest.mark.parametrize("name", CACHED)
def test_a_patched_prompt_is_continued_as_without_a_cache(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    model.generation_config.eos_token_id = None
    run = record(model, batch)
    changes = [
        {f"blocks.{block}.resid_post": edits.set_to(3 * value_for(run, seed=block), at=at)}
        for block in range(3)
        for at in (2, -1)
    ]
    out = run.lanes(changes, generate=5)
    assert out.generated is not None
    for number, change in enumerate(changes):
        ((site, made),) = change.items()
        block, at = int(site.split(".")[1]), made.at
        at = at if at >= 0 else run.length + at
        ids = batch["input_ids"]
        value = 3 * value_for(run, seed=block)
        for _ in range(5):
            with written(model, block, put_at([at], value)):
                following = logits(model, {"input_ids": ids})[:, -1].argmax(-1)
            ids = torch.cat([ids, following[:, None]], 1)
        rows = out.what_if == number
        assert torch.equal(out.generated[rows], ids[:, run.length :]), (site, at)


def test_without_a_cache_generation_falls_back_and_says_so() -> None:
    model, batch = families.build("mamba"), families.batch("mamba")
    model.generation_config.eos_token_id = None
    run = record(model, batch)
    out = run.lanes([{"blocks.0.resid_post": edits.zero(at=3)}], generate=3)
    assert not out.exact
    assert "no keys and values" in " ".join(out.notes)
    ids = batch["input_ids"]
    for _ in range(3):
        with written(model, 0, put_at([3], torch.zeros(1))):
            following = logits(model, {"input_ids": ids})[:, -1].argmax(-1)
        ids = torch.cat([ids, following[:, None]], 1)
    assert torch.equal(out.generated, ids[:, run.length :])


def test_bfloat16_shows_its_noise() -> None:
    model, batch = families.build("llama").bfloat16(), families.batch("llama")
    run = record(model, batch)
    out = run.replay("blocks.0.resid_post", run["blocks.0.resid_post"], at=None)
    assert out.exact, out.notes
    assert 0 <= out.noise < 0.1


def test_the_model_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = families.build("gpt2").train(), families.batch("gpt2")
    modules = dict(model.named_modules())
    run = record(model, batch)

    def fail(block: int, *_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.lanes([{"blocks.0.resid_post": edits.zero()}], each_block=fail)
    assert dict(model.named_modules()) == modules
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_recording_inside_an_edit_remembers_the_edited_model() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    with edits.edit(model, {"blocks.0.mlp_out": edits.zero()}):
        run = record(model, batch)
        out = run.replay("blocks.1.resid_post", run["blocks.1.resid_post"][:, -1:], at=-1)
        expected = logits(model, batch)
    assert torch.equal(run.logits, expected)
    assert (out.logits[:, -1] - expected[:, -1]).abs().max() < EXACT


def test_what_cannot_be_asked_is_said() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    value = value_for(run)
    with pytest.raises(IndexError, match=r"at=9, but the prompts have 9 positions: 0 to 8"):
        run.replay(0, value, at=9)
    with pytest.raises(IndexError, match="of=5, but the recording has prompts 0 to 1"):
        run.replay(0, value[:1], at=0, of=[5])
    with pytest.raises(ValueError, match="value has 3 rows, the recording 2 prompts"):
        run.replay(0, torch.cat([value, value[:1]]), at=0)
    with pytest.raises(LookupError, match=r"was not recorded; ask with record"):
        run["blocks.1.mlp_out"]
    with pytest.raises(IndexError, match="has 3 blocks"):
        run.replay(7, value)
    with pytest.raises(ValueError, match="give a list of what-ifs"):
        run.lanes([])
    with pytest.raises(ValueError, match="batch is empty"):
        record(model, torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(LookupError, match="no stack of blocks was found in Tagger"):
        record(families.build("lstm"), families.batch("lstm"))
