"""Windows that are full to the last token, each with the special tokens of a whole text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.material.packed import packed
from layerscope.corpus import read
from layerscope.planted import families


@pytest.fixture
def framed(tokenizer: Any) -> Any:
    """The tokenizer with `<pad>` before and after each text, as BERT has CLS and SEP."""
    import copy

    from tokenizers import processors

    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A <pad>", special_tokens=[("<pad>", other.pad_token_id)]
    )
    return other


def test_texts_follow_each_other_and_are_cut(
    gpt2: Any, tokenizer: Any, sentences: list[str]
) -> None:
    found = packed(gpt2, sentences, length=20, tokenizer=tokenizer)
    ids = [x for text in sentences for x in tokenizer(text + "\n")["input_ids"]]
    assert len(found) == len(ids) // 20
    assert torch.cat(found.prompts.ids).tolist() == ids[: 20 * len(found)]
    assert {len(x) for x in found.prompts.ids} == {20}


def test_each_window_has_the_special_tokens_of_a_text(
    gpt2: Any, framed: Any, sentences: list[str]
) -> None:
    pad = framed.pad_token_id
    found = packed(gpt2, sentences, length=20, most=3, tokenizer=framed)
    assert len(found) == 3
    body = []
    for ids in found.prompts.ids:
        assert len(ids) == 20
        assert (ids[0], ids[-1]) == (pad, pad)
        body += ids[1:-1].tolist()
    assert pad not in body
    whole = [x for text in sentences for x in framed(text + "\n", add_special_tokens=False)["input_ids"]]  # fmt: skip
    assert body == whole[:54]


def test_the_context_bounds_the_window(gpt2: Any, tokenizer: Any, sentences: list[str]) -> None:
    assert len(packed(gpt2, sentences, tokenizer=tokenizer).prompts.ids[0]) == 64
    with pytest.raises(ValueError, match="windows of 65 tokens do not fit the context of 64"):
        packed(gpt2, sentences, length=65, tokenizer=tokenizer)
    short = packed(gpt2, ["a dog barks"], tokenizer=tokenizer)
    assert len(short) == 1
    assert any("fill no window of 64 tokens" in note for note in short.notes)


def test_windows_that_begin_in_one_document_are_one_group(gpt2: Any, tokenizer: Any) -> None:
    lines = [{"text": f"{'the cat sat on the mat ' * 12}", "doc": d} for d in ("a", "b")]
    corpus = read(lines, group="doc")
    found = packed(gpt2, corpus, length=16, tokenizer=tokenizer)
    assert found.n_groups == 2
    assert found.groups[0] != found.groups[-1]


def test_ids_are_the_windows_they_are() -> None:
    found = packed(families.build("llama"), [[5, 6, 7, 8], [9, 10]], most=1)
    assert [x.tolist() for x in found.prompts.ids] == [[5, 6, 7, 8]]
