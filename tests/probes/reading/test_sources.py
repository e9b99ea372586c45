"""What data lack is refused before a model runs on them."""

from __future__ import annotations

import pytest
from torch import nn

from layerscope.corpus import bundled, read
from layerscope.probes.kinds import Concepts
from layerscope.probes.probe import probe


@pytest.fixture
def runs(monkeypatch) -> list[nn.Module]:
    """The models that were run."""
    seen: list[nn.Module] = []

    def run(model: nn.Module, *_: object, **__: object) -> None:
        seen.append(model)
        raise RuntimeError("the model ran")

    monkeypatch.setattr("layerscope.hooks.extract.extract", run)
    return seen


def test_the_label_of_the_concepts(gpt2, runs) -> None:
    with pytest.raises(LookupError, match=r"no label 'deprell'.*did you mean 'deprel'"):
        probe(gpt2, label="upos", kind=Concepts(label="deprell"))
    assert not runs
    with pytest.raises(RuntimeError, match="the model ran"):
        probe(gpt2, label="upos", kind=Concepts(label="deprel"))


@pytest.mark.parametrize("kind", ["pooling", "clue", "ccs"])
def test_labels_of_words_where_texts_are_read(gpt2, runs, kind) -> None:
    with pytest.raises(
        ValueError, match=r"'upos' has several values in text .* whole texts here: none"
    ):
        probe(gpt2, kind=kind)
    assert not runs


def test_labels_of_words_that_are_all_alike_will_do(gpt2, runs) -> None:
    """What each word of a text has is the text's; whether it has it is known once it is read."""
    from dataclasses import replace

    def named(text):
        labels = dict(text.words.labels) | {"part": (text.id,) * len(text.words)}
        return replace(text, words=replace(text.words, labels=labels))

    with pytest.raises(RuntimeError, match="the model ran"):
        probe(gpt2, label="part", kind="pooling", data=bundled().map(named))


def test_labels_of_texts(gpt2, runs, tmp_path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,mood\nit rains,sad\nit shines,glad\n")
    with pytest.raises(RuntimeError, match="the model ran"):
        probe(gpt2, label="mood", kind="pooling", data=read(path))
