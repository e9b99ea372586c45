"""Texts for analyses: where they come from, groups, splits, and states."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.erasure import erasure
from layerscope.analyses.layer_similarity import layer_similarity
from layerscope.analyses.material.texts import (
    DEFAULT_TEXTS,
    as_texts,
    group_means,
    looks_ahead,
    residual_sites,
    residuals,
    tokens_at_once,
)
from layerscope.corpus import read
from layerscope.demo import load_model, load_tokenizer
from layerscope.hooks.capture import capture
from layerscope.hooks.edits import edit, zero
from layerscope.planted import families


def test_without_data_the_bundled_sentences_in_their_documents() -> None:
    model, tokenizer = load_model(), load_tokenizer()
    texts = as_texts(model, tokenizer=tokenizer)
    assert len(texts) == DEFAULT_TEXTS
    assert 20 < texts.n_groups < 60
    assert len(as_texts(model, tokenizer=tokenizer, limit=7)) == 7


def test_every_kind_of_data(gpt2, tokenizer, sentences, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a dog barks", "doc": 1}\n{"text": "fish swim", "doc": 1}\n')
    assert as_texts(gpt2, ["a dog barks"], tokenizer=tokenizer).tokens < 12
    assert len(as_texts(gpt2, sentences, tokenizer=tokenizer)) == len(sentences)
    assert len(as_texts(gpt2, torch.tensor([[3, 4], [5, 6]]), tokenizer=tokenizer)) == 2
    assert as_texts(gpt2, file, tokenizer=tokenizer).n_groups == 2
    assert as_texts(gpt2, str(file), tokenizer=tokenizer).prompts.texts == (
        "a dog barks",
        "fish swim",
    )
    with pytest.raises(FileNotFoundError, match=r"no file 'gone\.txt'.*give a text in a list"):
        as_texts(gpt2, "gone.txt", tokenizer=tokenizer)
    grouped = as_texts(gpt2, read(file, group="doc"), tokenizer=tokenizer)
    assert (len(grouped), grouped.n_groups) == (2, 1)
    with pytest.raises(ValueError, match="is one group, so nothing can be held out"):
        grouped.split(0.3, seed=0)


def test_a_split_shares_no_group_and_follows_the_seed() -> None:
    model, tokenizer = load_model(), load_tokenizer()
    texts = as_texts(model, tokenizer=tokenizer, limit=150)
    fit, held = texts.split(0.3, seed=1)
    assert len(fit) + len(held) == 150
    assert held.n_groups == round(0.3 * texts.n_groups)
    whole = dict(zip(texts.prompts.texts, texts.groups, strict=True))
    assert not {whole[t] for t in fit.prompts.texts} & {whole[t] for t in held.prompts.texts}
    assert held.prompts.texts == texts.split(0.3, seed=1)[1].prompts.texts
    assert held.prompts.texts != texts.split(0.3, seed=2)[1].prompts.texts


def test_too_long_texts_are_cut_with_a_note(gpt2, tokenizer) -> None:
    texts = as_texts(gpt2, ["the cat sat . " * 40, "fish swim"], tokenizer=tokenizer)
    assert len(texts.prompts.ids[0]) == 64
    assert any("1 of 2 prompts were cut at the context of 64" in note for note in texts.notes)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gpt_neox", "mamba"])
def test_residuals_are_the_sites(name: str) -> None:
    model = families.build(name)
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    sites = residual_sites(families.LAYERS)
    with torch.no_grad(), capture(model, sites) as seen:
        model(ids)
    states = residuals(model, ids)
    for site, state in zip(sites, states, strict=True):
        assert torch.equal(seen[site], state)


def test_which_models_look_ahead() -> None:
    for name, ahead in (("llama", False), ("gpt2", False), ("mamba", False), ("bert", True)):
        ids = families.batch(name)["input_ids"][0]  # type: ignore[call-overload]
        assert looks_ahead(families.build(name), ids) is ahead
    assert not looks_ahead(families.build("bert"), torch.tensor([5]))


def test_means_and_intervals_are_over_groups() -> None:
    model = load_model()
    texts = as_texts(model, [[5, 6, 7], [5, 6], [8, 9, 10, 11]], tokenizer=load_tokenizer())
    sums, counts = np.array([[2.0, 1.0, 9.0]]), np.array([2.0, 1.0, 3.0])
    mean, low, high = group_means(sums, counts, texts, seed=0)
    assert mean[0] == 2.0
    # Every text is a group; the extremes are draws of one group alone.
    assert (low[0], high[0]) == (1.0, 3.0)


def test_the_notes_name_changes_that_are_in_force(gpt2, tokenizer) -> None:
    model = gpt2
    with edit(model, {"blocks.1.resid_post": zero()}):
        texts = as_texts(model, [[5, 6]])
        similar = layer_similarity(model, ["a dog barks"], tokenizer=tokenizer, progress=False)
        erased = erasure(model, [[5, 6]], progress=False)
    for noted in (texts, similar, erased):
        said = [
            note for note in noted.notes if "changes in force: blocks.1.resid_post: zero" in note
        ]
        assert len(said) == 1
    assert not as_texts(model, [[5, 6]]).notes


def test_encoder_decoders_are_refused() -> None:
    with pytest.raises(ValueError, match="is an encoder-decoder: texts feed its encoder"):
        as_texts(families.build("t5"), [[5, 6]])


@pytest.mark.parametrize(("words", "tokens"), [(2**20, 16), (100, 2048), (None, 2048), (2**30, 1)])
def test_a_batch_has_as_many_tokens_as_its_logits_have_room(words: int | None, tokens: int) -> None:
    model: Any = torch.nn.Linear(1, 1)
    model.config = SimpleNamespace(vocab_size=words)
    assert tokens_at_once(model) == tokens
    assert tokens_at_once(model, most=8, each=32) == min(tokens, 8)
