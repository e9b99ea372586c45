"""Prompts in every form give the same ids, groups without padding, and positions that can be named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.corpus import read
from layerscope.demo import load_tokenizer
from layerscope.hooks.prompts import as_prompts

TEXTS = ["The friend of Anna is", "The city of the friend of Anna is", "The boss of Kate is"]


@pytest.fixture(scope="module")
def named() -> Any:
    return load_tokenizer()


class Headless(nn.Module):
    """A model that declares nothing at all."""


def made(prompts: Any, tokenizer: Any = None, **more: Any) -> Any:
    return as_prompts(Headless(), prompts, tokenizer, **more)


def test_every_form_gives_the_same_ids(named: Any) -> None:
    texts = made(TEXTS, named)
    lists = [ids.tolist() for ids in texts.ids]
    right = named(TEXTS, padding=True, return_tensors="pt")
    left = named(TEXTS, padding=True, padding_side="left", return_tensors="pt")
    for form in (lists, [tuple(x) for x in lists], list(texts.ids), right, dict(left)):
        again = made(form, named)
        assert [ids.tolist() for ids in again.ids] == lists
        assert again.texts == tuple(TEXTS)
        assert again.spans == texts.spans
    assert made(right["input_ids"][1], named).ids[0].tolist() == lists[1]
    assert made(lists[0]).ids[0].tolist() == lists[0]
    assert made(TEXTS[0], named).ids[0].tolist() == lists[0]


def test_special_tokens_are_those_of_the_tokenizer(named: Any) -> None:
    ids = made(TEXTS, named).ids[0]
    assert ids[0] == named.bos_token_id
    assert ids.tolist() == named(TEXTS[0])["input_ids"]
    bare = named(TEXTS[0], add_special_tokens=False)["input_ids"]
    again = made([bare], named)
    assert again.ids[0].tolist() == bare
    assert again.position(0, "Anna") == 3


def test_a_corpus_and_a_file_are_read(named: Any, tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text("\n".join(TEXTS))
    corpus = read(file)
    assert made(corpus, named).texts == made(file, named).texts == tuple(t.content for t in corpus)


def test_batches_hold_every_prompt_once_without_padding(named: Any) -> None:
    prompts = made([*TEXTS, *TEXTS], named)
    batches = list(prompts.batches(max_rows=3))
    assert sorted(i for indices, _ in batches for i in indices.tolist()) == list(range(6))
    for indices, batch in batches:
        assert len(indices) <= 3
        for i, row in zip(indices.tolist(), batch["input_ids"], strict=True):
            assert torch.equal(row, prompts.ids[i])


def test_tokens_are_readable_with_and_without_offsets(named: Any) -> None:
    prompts = made(TEXTS, named)
    assert prompts.tokens(0) == ["<s>", "The", " friend", " of", " Anna", " is"]
    assert prompts.offsets(0) == ((0, 0), (0, 3), (3, 10), (10, 13), (13, 18), (18, 21))
    # </s> in the middle is dropped by decoding, so these ids cannot be found again in a text.
    odd = made([[1, 265, 2, 475]], named)
    assert odd.tokens(0) == ["<s>", "The", "</s>", " Anna"]
    assert odd.offsets(0) is None
    assert made([[5, 17]]).tokens(0) == ["5", "17"]


@pytest.mark.parametrize(
    ("of", "position"),
    [(None, 8), (-1, 8), (0, 0), (-9, 0), ("Anna", 7), (" Anna", 7), ("friend of Anna", 7)],
)
def test_positions_by_number_and_by_text(named: Any, of: int | str | None, position: int) -> None:
    assert made(TEXTS, named).position(1, of) == position


def test_the_last_occurrence_counts_and_its_last_token(named: Any) -> None:
    prompts = made(TEXTS, named)
    assert prompts.tokens(1)[prompts.position(1, "of")] == " of"
    assert prompts.position(1, "of") == 6  # not the first, at 3
    assert prompts.positions(1, "the friend of") == [4, 5, 6]
    assert prompts.positions(1, 2) == [2]
    word = made(["see Popocatepetl now"], named)
    pieces = word.positions(0, "Popocatepetl")
    assert len(pieces) > 1
    assert "".join(word.tokens(0)[p] for p in pieces) == " Popocatepetl"
    assert word.position(0, "Popocatepetl") == pieces[-1]
    tail = "".join(word.tokens(0)[p] for p in pieces[1:])
    assert word.positions(0, tail) == pieces[1:]
    assert prompts.positions(1, "Anna ") == [7]


def test_positions_that_are_not_there_name_the_prompt(named: Any) -> None:
    prompts = made(TEXTS, named)
    with pytest.raises(IndexError, match=r"position 6 is outside prompt 0 .*Anna.* has 6 tokens"):
        prompts.position(0, 6)
    with pytest.raises(IndexError, match=r"position -7 is outside prompt 0"):
        prompts.position(0, -7)
    with pytest.raises(LookupError, match=r"'Bert' does not occur in prompt 2 \('The boss of Kate"):
        prompts.position(2, "Bert")
    with pytest.raises(LookupError, match=r"'' does not occur in prompt 0"):
        prompts.position(0, "")
    with pytest.raises(LookupError, match=r"given as ids; give a number instead of 'Anna'"):
        made([[5, 17]]).position(0, "Anna")


def test_long_prompts_are_refused_or_cut_and_counted(named: Any) -> None:
    long = ["The friend of Anna is. " * 60, TEXTS[0]]
    with pytest.raises(ValueError, match=r"prompt 0 \('The friend .* more than the context of 256"):
        made(long, named)
    prompts = made(long, named, too_long="truncate")
    assert [len(ids) for ids in prompts.ids] == [256, 6]
    assert prompts.notes == ("1 of 2 prompts were cut at the context of 256 tokens",)
    assert prompts.position(0, "Anna") < 256
    with pytest.raises(ValueError, match=r"'refuse' or 'truncate', not 'cut'"):
        made(long, named, too_long="cut")


def test_the_tokenizer_does_not_warn_of_what_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    warning = "transformers.tokenization_utils_base.logger.warning"
    monkeypatch.setattr(warning, lambda *said: told.append(said))
    fresh = load_tokenizer()
    long = "The friend of Anna is. " * 60
    assert len(fresh(long)["input_ids"]) > 256
    assert len(told) == 1  # the warning that is meant, and that is given once for each tokenizer
    assert len(made([long], load_tokenizer(), too_long="truncate").ids[0]) == 256
    assert len(told) == 1


def test_the_models_own_context_counts(gpt2: Any, tokenizer: Any) -> None:
    assert len(as_prompts(gpt2, [[3] * 64]).ids[0]) == 64
    with pytest.raises(ValueError, match="has 65 tokens, more than the context of 64"):
        as_prompts(gpt2, [[3] * 65])
    with pytest.raises(ValueError, match="more than the context of 64"):
        as_prompts(gpt2, ["cat " * 100], tokenizer)


@pytest.mark.parametrize("nothing", [[], torch.zeros(0, 3, dtype=torch.long), ()])
def test_no_prompts_are_refused(nothing: Any) -> None:
    with pytest.raises(ValueError, match="there are no prompts"):
        made(nothing)


def test_what_is_no_prompt_is_refused(gpt2: Any, tokenizer: Any, named: Any) -> None:
    with pytest.raises(ValueError, match=r"prompt 1 \(''\) has no tokens"):
        as_prompts(gpt2, ["a cat", ""], tokenizer)
    with pytest.raises(ValueError, match=r"prompt 0 .* has no tokens"):
        made([[]])
    with pytest.raises(TypeError, match="these are mixed"):
        made(["a cat", [3, 4]], named)
    with pytest.raises(TypeError, match="not float"):
        made(3.5)
    with pytest.raises(TypeError, match="prompt 0 is neither a text nor a sequence of ids"):
        made([[0.5, 1.5]])
    with pytest.raises(ValueError, match=r"whole numbers \[b, p\], not torch.float32 \[1, 3\]"):
        made(torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"attention_mask \[2, 3\] does not fit input_ids \[2, 4\]"
    ):
        made({"input_ids": torch.ones(2, 4).long(), "attention_mask": torch.ones(2, 3)})
    with pytest.raises(ValueError, match=r"this one has \['ids'\]"):
        made({"ids": torch.ones(2, 4)})
    with pytest.raises(ValueError, match="Headless does not say where its tokenizer is"):
        made(TEXTS)
    with pytest.raises(
        ValueError, match="id 300 of prompt 0 is outside the model's vocabulary of 300"
    ):
        as_prompts(gpt2, [[3, 300]])
