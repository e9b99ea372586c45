"""Replays on trained models, beyond sliding windows, with attention edges, from every kind of site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.load import load_model, tokenizer_of
from layerscope.hooks.replay import lanes, record
from layerscope.planted import families

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
TRAINED = {
    "stories260K": DATA / "stories260K" / "hf",
    "gpt2_books": DATA / "gpt2_books_steps" / "step2048",
}


def logits(model: nn.Module, **batch: Any) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture(scope="module", params=list(TRAINED))
def trained(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    folder = TRAINED[request.param]
    if not folder.is_dir():
        pytest.skip(f"no trained model at shared/data ({request.param})")
    model = load_model(folder)
    text = "Once upon a time there was a little girl who lived in the forest with her dog."
    ids = tokenizer_of(model, None)(text, return_tensors="pt")["input_ids"]
    return model, ids


def test_back_patching_a_trained_model_equals_hooks(trained: tuple[nn.Module, Tensor]) -> None:
    model, ids = trained
    run = record(model, ids)
    what_ifs, of, pairs = [], [], []
    for position in (4, -1):
        for target in range(run.n_blocks - 1):
            for source in range(target + 1, run.n_blocks):
                state = run[f"blocks.{source}.resid_post"][:, position]
                change = edits.set_to(state[:, None], at=position)
                what_ifs.append({f"blocks.{target}.resid_post": change})
                pairs.append((target, position, state))
                of.append([0])
    out = run.lanes(what_ifs, of=of, last=1)
    assert out.exact
    for row, (target, position, state) in enumerate(pairs):

        def patched(module: nn.Module, args: Any, output: Any) -> Any:
            x = (output if isinstance(output, Tensor) else output[0]).clone()
            x[:, position] = state  # noqa: B023
            return x if isinstance(output, Tensor) else (x, *output[1:])

        path = anatomy(model).blocks[target].path
        handle = model.get_submodule(path).register_forward_hook(patched)
        expected = logits(model, input_ids=ids)
        handle.remove()
        error = (out.logits[row] - expected[0, -1:]).abs().max()
        assert error < 1e-5 * max(1.0, float(expected.abs().max()))


def test_the_noise_of_bfloat16_is_shown(trained: tuple[nn.Module, Tensor]) -> None:
    model, ids = trained
    model = type(model)(model.config).to(torch.bfloat16).eval()
    model.load_state_dict(trained[0].state_dict())
    run = record(model, ids)
    changes = [{f"blocks.{i}.resid_post": edits.skip()} for i in range(run.n_blocks)]
    out = run.lanes(changes)
    assert out.exact, out.notes
    assert 0 <= out.noise < 0.05 * float(run.logits.abs().max())


def test_prompts_longer_than_a_sliding_window() -> None:
    model = families.build("mistral")
    window = model.config.sliding_window = 4
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 60, (2, 3 * window + 2), generator=generator)
    run = record(model, ids)
    assert run._pass.cache is not None
    for at in (1, window + 1, -1):
        change = {"blocks.0.resid_post": edits.scale(-2.0, at=at)}
        out = run.lanes([change], generate=4)
        with edits.edit(model, change):
            expected = logits(model, input_ids=ids)
        assert out.exact, out.notes
        assert (out.logits - expected[:, out.positions.start :]).abs().max() < 4e-6
        model.generation_config.eos_token_id = None
        with edits.edit(model, {"blocks.0.resid_post": edits.scale(-2.0, at=at)}):
            made = model.generate(ids, max_new_tokens=4, do_sample=False)
        assert torch.equal(out.generated, made[:, ids.shape[1] :])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma2", "falcon"])
def test_attention_edges_cut_in_a_replay_equal_an_edit(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    cuts = [{f"blocks.{i}.pattern": edits.cut(queries=-1, keys=[6, 7])} for i in range(3)]
    out = run.lanes(cuts)
    assert out.exact, out.notes
    for number, change in enumerate(cuts):
        with edits.edit(model, change):
            expected = logits(model, **batch)
        rows = out.what_if == number
        assert (out.logits[rows] - expected[:, out.positions.start :]).abs().max() < 2e-6
        assert (out.logits[rows] - out.baseline).abs().max() > 1e-4


@pytest.mark.parametrize(
    "part", ["q", "k", "v", "z", "pattern", "attn_out", "mlp_act", "resid_mid"]
)
def test_every_kind_of_site_can_be_changed_in_a_replay(part: str) -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    changes = [{f"blocks.{i}.{part}": edits.scale(0.3, at=5)} for i in range(3)]
    out = run.lanes(changes)
    assert out.exact, out.notes
    for number, change in enumerate(changes):
        with edits.edit(model, change):
            expected = logits(model, **batch)
        rows = out.what_if == number
        assert (out.logits[rows] - expected[:, out.positions.start :]).abs().max() < 2e-6


def test_embeddings_norm_and_logits_can_be_changed() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    for site in ("embed", "norm", "logits", "model.embed_tokens"):
        change = {site: edits.scale(0.5, at=6)}
        out = run.lanes([change])
        with edits.edit(model, change):
            expected = logits(model, **batch)
        assert (out.logits - expected[:, out.positions.start :]).abs().max() < 2e-6
        assert out.exact == (site != "model.embed_tokens")


def test_swap_takes_the_states_of_another_recording() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    other = record(model, batch["input_ids"].flip(0))
    out = run.lanes([{"blocks.1.resid_post": edits.swap(other)}])
    assert (out.logits - other.logits).abs().max() < 2e-6


def test_only_what_each_position_needs_is_computed() -> None:
    """An erasure map, whose answers are read at the last position: L^2 T / 4 and not L^2 T."""
    model, ids = families.build("llama"), families.batch("llama")["input_ids"][:1]
    run = record(model, ids)
    blocks, length = run.n_blocks, run.length
    changes = [
        {site: edits.zero(at=position)}
        for site in ("embed", *(f"blocks.{i}.resid_post" for i in range(blocks)))
        for position in range(length)
    ]
    out = run.lanes(changes, last=1)
    rows = sum(range(blocks + 1)) + blocks  # each start, and one baseline
    exact = rows * sum(length - p for p in range(length)) / length
    assert out.evaluations == pytest.approx(exact, abs=1e-9)
    whole = lanes(model, ids, changes, last=1)
    assert (out.logits - whole.logits).abs().max() < 2e-6
    assert out.logits.shape[:2] == (len(changes), 1)


def test_each_block_sees_the_streams_of_all_live_rows() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"][:1]
    seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def look(block: int, before: Tensor, after: Tensor, what_if: Tensor) -> None:
        seen[block] = (before.clone(), after.clone(), what_if)

    skips = [{f"blocks.{s}.resid_post": edits.skip()} for s in range(3)]
    lanes(model, ids, skips, each_block=look)
    assert [seen[i][2].tolist() for i in range(3)] == [[-1], [-1, 0], [-1, 0, 1]]
    with capture(model, ["embed", "all"]) as states, torch.no_grad():
        model(input_ids=ids)
    for block in range(3):
        before = states["embed"] if block == 0 else states[f"blocks.{block - 1}.resid_post"]
        assert (seen[block][0][:1] - before).abs().max() < 2e-6
        assert (seen[block][1][:1] - states[f"blocks.{block}.resid_post"]).abs().max() < 2e-6


def test_blocks_can_be_run_by_hand() -> None:
    model, batch = families.build("gpt_neox"), families.batch("gpt_neox")
    run = record(model, batch)

    def in_parallel(stage):  # type: ignore[no-untyped-def]
        stream = stage.block(0, stage.stream)
        return stream + sum(stage.block(i, stream) - stream for i in (1, 2))

    ours = run.perform(in_parallel)
    states = [run["embed"], *(run[f"blocks.{i}.resid_post"] for i in range(3))]
    again = run.perform(lambda stage: stage.block(2, stage.block(1, states[1])))
    assert ours is not None
    assert torch.equal(again, run.logits)
    assert (ours - run.logits).abs().max() > 1e-3
    assert run.perform(lambda stage: None) is None


def test_what_depends_on_other_rows_and_positions_is_computed_with_them() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    changes = [
        {"blocks.1.mlp_out": edits.mean(at=-1)},
        {"blocks.0.resid_post": edits.resample(seed=1, at=4)},
        {"blocks.2.attn_out": edits.zero(at=6)},
    ]
    for budget in (1, 2**30):
        out = run.lanes(changes, budget=budget)
        for number, change in enumerate(changes):
            with edits.edit(model, change):
                expected = logits(model, **batch)
            error = (out.logits[out.what_if == number] - expected[:, out.positions.start :]).abs()
            assert error.max() < 2e-6, (budget, change)
