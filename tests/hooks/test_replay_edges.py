"""Replays at their edges: pads, shared blocks, nested edits, open-ended changes, odd tensors, threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.capture import capture
from layerscope.hooks.replay import lanes, record
from layerscope.planted import families

EXACT = 2e-6


def logits(model: nn.Module, **batch: Any) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize(
    "name", ["roberta", "bert", "albert", "distilbert", "gpt2", "llama", "opt"]
)
def test_padding_on_the_right_is_recorded_as_the_model_runs_it(name: str) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"].clone()
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    run = record(model, {"input_ids": ids, "attention_mask": mask})
    error = (run.logits - logits(model, input_ids=ids, attention_mask=mask)).abs()
    assert error[mask.bool()].max() < EXACT


def test_last_positions_that_are_padding_are_refused() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    run = record(model, {"input_ids": ids, "attention_mask": mask})
    change = [{"blocks.0.resid_post": edits.zero(at=2)}]
    for choices in ({"last": 1}, {"generate": 3}):
        with pytest.raises(ValueError, match="pad them on the left"):
            run.lanes(change, **choices)
    with pytest.raises(ValueError, match="pad them on the left"):
        run.program([0, 1], generate=3)


@pytest.mark.parametrize("part", ["mlp_out", "attn_out", "q"])
def test_blocks_that_share_a_module_are_told_apart(part: str) -> None:
    model, batch = families.build("albert"), families.batch("albert")
    run = record(model, batch)
    for block in range(run.n_blocks):
        site = f"blocks.{block}.{part}"
        change = {site: edits.scale(-1.0, at=2)}
        out = run.lanes([change], keep=[site])
        with edits.edit(model, change), capture(model, site) as seen:
            expected = logits(model, **batch)
        assert (out.logits - expected).abs().max() < EXACT
        assert (out[site] - seen[site]).abs().max() < EXACT


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gptj"])
def test_open_ended_changes_go_on_while_tokens_are_generated(name: str) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"]
    model.generation_config.eos_token_id = None
    changes = [
        {"blocks.1.resid_post": edits.skip()},
        {"blocks.1.mlp_out": edits.scale(-3.0)},
        {"blocks.0.attn_out": edits.zero(at=3)},
    ]
    out = record(model, ids).lanes(changes, generate=6)
    for number, change in enumerate(changes):
        with edits.edit(model, change):
            made = model.generate(ids, max_new_tokens=6, do_sample=False)
        assert torch.equal(out.generated[out.what_if == number], made[:, ids.shape[1] :])


def test_an_edit_that_speaks_of_rows_cannot_stand_around_what_ifs() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    for change in (
        edits.scale(2.0, rows=[0]),
        edits.mean(),
        edits.zero(at=torch.tensor([[1], [2]])),
    ):
        with edits.edit(model, {"blocks.0.mlp_out": change}):
            model(**batch)
            with pytest.raises(ValueError, match="depends on the rows of the batch"):
                record(model, batch)
    run = record(model, batch)
    with (
        edits.edit(model, {"blocks.0.mlp_out": edits.scale(2.0)}),
        pytest.raises(RuntimeError, match="first visit of a block only"),
    ):
        run.program([0, 1, 1, 2])


def test_a_mean_in_a_what_if_leaves_padding_out() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    run = record(model, batch)
    change = {"blocks.1.mlp_out": edits.mean(at=-1)}
    out = run.lanes([change])
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    with edits.edit(model, change):
        expected = logits(model, **batch, position_ids=positions)
    assert (out.logits - expected)[:, -1].abs().max() < EXACT
    assert "padding" in " ".join(out.notes)


@pytest.mark.parametrize(
    ("name", "path"),
    [("opt", "model.decoder.layers.1.fc1"), ("mixtral", "model.layers.1.mlp.gate")],
)
def test_tensors_without_an_axis_of_rows_are_refused(name: str, path: str) -> None:
    model, batch = families.build(name), families.batch(name)
    run = record(model, batch)
    with pytest.raises(ValueError, match="its first axis is not the 4 rows"):
        run.lanes([{"blocks.0.resid_post": edits.zero(at=2)}], keep=[path])
    with pytest.raises(ValueError, match="its first axis is not the"):
        run.lanes([{path: edits.scale(0.2)}])


def test_a_kept_site_outside_the_blocks_has_the_values_of_each_rows_prompt() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    change = {"blocks.1.resid_post": edits.zero()}
    out = run.lanes([change], of=[[1]], keep=["model.embed_tokens"])
    embedded = model.get_input_embeddings()(batch["input_ids"][1:])
    assert torch.equal(out["model.embed_tokens"], embedded)
    assert torch.equal(out.base["model.embed_tokens"], embedded)


def test_kept_tensors_are_copies_also_with_gradients() -> None:
    model, batch = families.build("falcon"), families.batch("falcon")
    run = record(model, batch)
    change = [{"blocks.0.resid_post": edits.scale(0.5)}]
    plain = run.lanes(change, keep="blocks.1.mlp_out")
    grad = run.lanes(change, keep="blocks.1.mlp_out", grad=True)
    assert (plain["blocks.1.mlp_out"] - grad["blocks.1.mlp_out"]).abs().max() < EXACT


def test_what_leaves_a_block_is_kept_before_what_enters_the_next_is_changed() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    change = {"blocks.1.resid_pre": edits.zero()}
    sites = ["blocks.0.resid_post", "blocks.1.resid_pre"]
    out = record(model, batch).lanes([change], keep=sites)
    with edits.edit(model, change), capture(model, sites) as seen:
        logits(model, **batch)
    for site in sites:
        assert (out[site] - seen[site]).abs().max() < EXACT


def test_classifiers_answer_once_for_each_row() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_labels=3
        )
        model = BertForSequenceClassification(config).eval()
    ids = families.batch("bert")["input_ids"]
    change = {"blocks.1.resid_post": edits.scale(0.5, at=0)}
    out = record(model, ids).lanes([change], last=1)
    with edits.edit(model, change):
        expected = logits(model, input_ids=ids)
    assert out.logits.shape == (2, 3)
    assert (out.logits - expected).abs().max() < EXACT


def test_what_does_not_fit_the_prompts_is_said() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    change = {"blocks.0.resid_post": edits.zero(at=2)}
    run = record(model, {"input_ids": ids, "use_cache": False})
    assert run.lanes([change], generate=1).exact
    with pytest.raises(ValueError, match="last=12, but the prompts have 9 positions"):
        lanes(model, ids, [change], last=12)
    with pytest.raises(ValueError, match="generate= needs logits"):
        run.lanes([change], last=0, generate=2)
    with pytest.raises(ValueError, match=r"of=\[\] names no prompt"):
        run.lanes([change], of=[[]])
    with pytest.raises(ValueError, match="give a list of what-ifs"):
        run.lanes(change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="programs takes several programs"):
        run.programs([0, 1, 2])  # type: ignore[list-item]
    assert run.lanes([change], keep=[]).exact


def test_ids_that_the_model_does_not_know_are_refused() -> None:
    model = families.build("gpt2")
    with pytest.raises(ValueError, match="token id 61 is outside the model's vocabulary of 61"):
        record(model, torch.tensor([[3, 61, 4]]))
    context = model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"has learned {context}; cut them"):
        record(model, torch.full((1, context + 1), 5))
    assert record(families.build("llama"), torch.full((1, 40), 5)).length == 40


def test_a_model_that_changed_since_is_noticed() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(3)
    change = [{"blocks.0.resid_post": edits.zero(at=6)}]
    with pytest.raises(RuntimeError, match="Record the model again"):
        run.lanes(change, each_block=lambda *_: None)
    assert not run.lanes(change).exact


def test_threads_do_not_cross() -> None:
    model, batch = families.build("llama"), families.batch("llama")
    run = record(model, batch)
    modules = dict(model.named_modules())
    change = [{f"blocks.{i}.resid_post": edits.skip()} for i in range(3)]
    expected = run.lanes(change).logits
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(8):
            try:
                if not torch.equal(run.lanes(change).logits, expected):
                    wrong.append("other numbers")
            except Exception as error:  # noqa: BLE001  (a thread must tell of any)
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert dict(model.named_modules()) == modules
