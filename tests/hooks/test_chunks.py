"""Which texts make which shard, and which tokens which row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layerscope.corpus import read
from layerscope.hooks.extracting.chunks import Reading, split_texts, tokenise


def reading(tokenizer: Any, rows: str = "tokens") -> Reading:
    return Reading(tokenizer=tokenizer, rows=rows, context=None, special_tokens=False)


def test_a_run_of_texts_is_cut_by_characters_and_keeps_the_order(sentences: list[str]) -> None:
    runs = list(split_texts(read(sentences), 60))
    assert [text.content for run in runs for text in run] == sentences
    assert all(sum(len(text.content) for text in run[:-1]) < 60 for run in runs)
    assert len(runs) > 3


def test_the_cut_does_not_depend_on_what_comes_later(sentences: list[str]) -> None:
    short = [[t.content for t in run] for run in split_texts(read(sentences[:6]), 40)]
    whole = [[t.content for t in run] for run in split_texts(read(sentences), 40)]
    assert whole[: len(short) - 1] == short[:-1]


def test_batches_hold_every_row_once_within_the_budget(
    sentences: list[str], tokenizer: Any
) -> None:
    chunk = tokenise(list(read(sentences)), 0, reading(tokenizer))
    batches = list(chunk.batches(40, pad=0))
    places = torch.cat([batch.place for batch in batches])
    assert sorted(places.tolist()) == list(range(chunk.rows))
    for batch in batches:
        assert batch.input_ids.numel() <= 40 or len(batch.input_ids) == 1
    lengths = [batch.input_ids.shape[1] for batch in batches]
    assert lengths == sorted(lengths, reverse=True)


def test_gathered_ids_are_the_token_ids_of_the_table(sentences: list[str], tokenizer: Any) -> None:
    chunk = tokenise(list(read(sentences)), 0, reading(tokenizer))
    table = chunk.table()
    for batch in chunk.batches(64, pad=0):
        ids = batch.gather(batch.input_ids.unsqueeze(-1).float()).squeeze(-1)
        assert ids.tolist() == table["token_id"].iloc[batch.place.numpy()].tolist()


def test_a_token_stands_where_the_table_says(sentences: list[str], tokenizer: Any) -> None:
    table = tokenise(list(read(sentences)), 5, reading(tokenizer)).table()
    assert table["text"].min() == 5
    for line in table.itertuples():
        assert sentences[line.text - 5][line.char_start : line.char_end] == line.token


@pytest.mark.parametrize("rule", ["texts:mean", "texts:last", "texts:first"])
def test_a_text_row_is_the_mean_the_last_or_the_first_token(
    sentences: list[str], tokenizer: Any, rule: str
) -> None:
    chunk = tokenise(list(read(sentences)), 0, reading(tokenizer, rule))
    assert chunk.rows == len(sentences)
    pick = {"texts:mean": np.mean, "texts:last": lambda x: x[-1], "texts:first": lambda x: x[0]}
    for batch in chunk.batches(64, pad=0):
        got = batch.gather(batch.input_ids.unsqueeze(-1).float()).squeeze(-1)
        want = [pick[rule](np.array(chunk.texts[i].ids)) for i in batch.members]
        np.testing.assert_allclose(got.numpy(), np.array(want, dtype=np.float32), rtol=1e-6)
