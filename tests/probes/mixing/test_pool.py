"""Pooling tokens of texts in one pass: loops in numpy, block sizes, and rows that are out of order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.probes.mixing.pool import POOLINGS, pooled
from layerscope.probes.reading.texts import texts_of

TEXTS = 30


@pytest.fixture
def store(make_store):
    """Texts of 1 to 6 tokens whose rows lie between those of other texts, positions descending."""
    generator = np.random.default_rng(0)
    text = generator.permutation(np.repeat(np.arange(TEXTS), 1 + np.arange(TEXTS) % 6))
    position = np.empty(len(text), int)
    for number in range(TEXTS):
        own = np.flatnonzero(text == number)
        position[own] = np.arange(len(own))[::-1]
    x = torch.randn(len(text), 3, generator=torch.Generator().manual_seed(0)) - 1
    return make_store(
        {"embed": x}, text=text, position=position, group=text, kind=["ab"[t % 2] for t in text]
    )


@pytest.mark.parametrize("batch", [1, 7, 64, 10_000])
def test_loops_over_texts_agree(store, batch) -> None:
    texts = texts_of(store, "kind")
    chosen = np.random.default_rng(1).permutation(len(texts))[:20]
    found = pooled(store, "embed", texts, chosen, POOLINGS, tail=2, batch=batch)
    rows, x = store.rows, store["embed"].numpy()
    names = list(dict.fromkeys(rows["text"]))
    for place, number in enumerate(chosen):
        own = np.flatnonzero(rows["text"] == names[number])
        tokens = x[own[np.argsort(rows["position"].to_numpy()[own])]]
        wanted = {
            "last": tokens[-1],
            "first": tokens[0],
            "mean": tokens.mean(0),
            "max": tokens.max(0),
            "tail": tokens[-2:].mean(0),
        }
        for name, vector in wanted.items():
            np.testing.assert_allclose(found[name][place], vector, rtol=1e-5, atol=1e-6)


def test_texts_say_what_they_are(store) -> None:
    texts = texts_of(store, "kind")
    rows = store.rows
    assert len(texts) == TEXTS
    assert texts.lengths.sum() == len(store)
    for number in range(TEXTS):
        own = rows.iloc[texts.rows[texts.starts[number] : texts.starts[number + 1]]]
        assert own["text"].nunique() == 1
        assert own["position"].is_monotonic_increasing
        assert texts.frame["kind"][number] == own["kind"].iloc[0]
        assert texts.first[number] == own.index[0]
        assert texts.last[number] == own.index[-1]


def test_texts_without_the_label_are_left_out_with_a_count(make_store) -> None:
    made = make_store(
        {"embed": torch.arange(8.0)[:, None]},
        text=[0, 0, 1, 1, 2, 2, 3, 3],
        position=[0, 1] * 4,
        kind=["a", "a", None, None, "b", "b", "a", "a"],
        group=range(8),
    )
    texts = texts_of(made, "kind")
    assert texts.frame["kind"].tolist() == ["a", "b", "a"]
    assert texts.last.tolist() == [1, 5, 7]
    assert texts.notes == ("1 of 4 texts have no kind: left out",)
    found = pooled(made, "embed", texts, np.array([2, 0]), ("mean",))
    assert found["mean"][:, 0].tolist() == [6.5, 0.5]


def test_labels_of_words_are_refused(make_store) -> None:
    made = make_store(
        {"embed": torch.ones(4, 1)}, text=[0, 0, 1, 1], group=[0, 0, 1, 1], kind=list("abaa")
    )
    with pytest.raises(ValueError, match="several values in 1 of 2 texts: it belongs to words"):
        texts_of(made, "kind")
