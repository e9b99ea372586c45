"""Training: what is packed, what is learned from, and the clock."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from layerscope.demo import load_tokenizer, train, world
from layerscope.demo.train import IGNORED, Settings


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


def test_prompts_of_facts_are_not_learned_from(tokenizer: Any) -> None:
    batches = islice(train.packed(tokenizer, Settings(world_share=1.0)), 3)
    ids, labels = (torch.cat(part).flatten().tolist() for part in zip(*batches, strict=True))
    pieces = tokenizer.decode(ids).split("</s>")[:-1]
    learned = [i for i, label in zip(ids, labels, strict=True) if label != IGNORED]
    completions = tokenizer.decode(learned).split("</s>")[: len(pieces)]
    answers = {q.prompt: q.completion for q in world.all_questions() if q.seen}
    assert len(pieces) > 100
    for piece, completion in zip(pieces, completions, strict=True):
        prompt = piece.removeprefix("<s>").removesuffix(completion)
        assert answers[prompt] == completion


def test_sentences_are_learned_from_whole(tokenizer: Any) -> None:
    ids, labels = next(iter(train.packed(tokenizer, Settings(world_share=0.0))))
    assert ids.shape == (6, 128)
    assert torch.equal(ids[labels != IGNORED], labels[labels != IGNORED])
    assert (ids[labels == IGNORED] == tokenizer.bos_token_id).all()


def test_the_schedule_rises_rests_and_falls() -> None:
    settings = Settings(warm_up=10)
    assert train.schedule(0, 0.0, settings) == pytest.approx(0.1)
    assert train.schedule(500, 0.5, settings) == 1.0
    assert train.schedule(500, 0.8, settings) == pytest.approx(0.5)
    assert train.schedule(500, 1.0, settings) == 0.0


def test_a_few_steps_learn_and_leave_a_loadable_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = Settings(width=16, blocks=1, heads=2, neurons=16, steps=40, warm_up=1, rate=1e-2)
    train.train(tmp_path, settings)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["settings"]["steps"] == 40
    assert record["log"][-1]["step"] == 40
    assert record["log"][-1]["held-out loss"] < 7.3  # log(1536) = 7.34 knows nothing
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert next(model.parameters()).dtype == torch.float32
