"""Corpus: re-iterable, identified by content, divided by group."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerscope.corpus import Corpus, Text, Words, read

WORDS = Words((0, 4), (3, 7), {"word": ("The", "cat"), "upos": ("DET", "NOUN")})
TEXTS = [
    Text("The cat sat.", "a", "doc", {"mood": "calm", "n": 1}, WORDS),
    Text("Off it ran.", "b", "doc", {"mood": "wild", "n": 2}),
]


def test_sizes_and_labels() -> None:
    corpus = read(TEXTS)
    assert len(corpus) == 2
    assert corpus.survey.words == 2
    assert corpus.word_labels == ("word", "upos")
    assert corpus.text_labels == ("mood", "n")
    assert corpus.labels == ("word", "upos", "mood", "n")
    assert repr(corpus) == "Corpus('texts', 2 texts, 2 words, labels: word, upos, mood, n)"
    assert TEXTS[0].words is not None
    assert TEXTS[0].words.column("upos") == ("DET", "NOUN")
    assert TEXTS[0].words.column("Tense") == (None, None)


def test_it_can_be_read_again_and_by_two_at_once() -> None:
    corpus = read(TEXTS)
    assert list(corpus) == list(corpus) == TEXTS
    assert [(a.id, b.id) for a, b in zip(corpus, corpus, strict=True)] == [("a", "a"), ("b", "b")]


def test_the_source_is_read_once_for_all_that_is_asked_of_it() -> None:
    reads = []

    def texts() -> Iterator[Text]:
        reads.append(1)
        return iter(TEXTS)

    corpus = Corpus("counted", texts)
    asked = [len(corpus), corpus.labels, corpus.fingerprint, corpus.notes, repr(corpus)]
    assert len(asked) == 5
    assert len(reads) == 1


CHANGES: dict[str, Callable[[Text], Text]] = {
    "content": lambda text: replace(text, content="The cat sat!"),
    "id": lambda text: replace(text, id="c"),
    "group": lambda text: replace(text, group="doc2"),
    "label": lambda text: replace(text, labels={"mood": "calm", "n": 2}),
    "label type": lambda text: replace(text, labels={"mood": "calm", "n": True}),
    "label name": lambda text: replace(text, labels={"mood": "calm", "m": 1}),
    "no label": lambda text: replace(text, labels={"mood": "calm", "n": None}),
    "word label": lambda text: replace(
        text, words=replace(WORDS, labels={**WORDS.labels, "upos": ("DET", "VERB")})
    ),
    "span": lambda text: replace(text, words=replace(WORDS, end=(3, 8))),
    "no words": lambda text: replace(text, words=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_changes_the_fingerprint(change: Callable[[Text], Text]) -> None:
    changed = [change(TEXTS[0]), TEXTS[1]]
    assert read(changed).fingerprint != read(TEXTS).fingerprint


def test_order_and_division_change_the_fingerprint() -> None:
    assert read(TEXTS[::-1]).fingerprint != read(TEXTS).fingerprint
    assert read(["ab", "c"]).fingerprint != read(["a", "bc"]).fingerprint


def test_name_and_order_of_columns_do_not() -> None:
    turned = replace(TEXTS[0], labels={"n": 1, "mood": "calm"})
    assert read([turned, TEXTS[1]], name="other").fingerprint == read(TEXTS).fingerprint
    assert len(read(TEXTS).fingerprint) == 64


def test_a_known_fingerprint_stays() -> None:
    """Stores are keyed by it: another value makes every stored activation of users stale."""
    expected = "8d433d3b18ef"
    assert read(TEXTS).fingerprint[:12] == expected


def test_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": t}) for t in ["one", "", " \t", "two", None]))
    corpus = read(path)
    assert [(text.content, text.id) for text in corpus] == [("one", "0"), ("two", "3")]
    assert len(corpus) == 2
    assert corpus.notes == ("3 empty texts were left out",)
    assert read(path, label=[]).notes == corpus.notes


def test_take_reads_no_further() -> None:
    def texts() -> Iterator[Text]:
        yield from TEXTS
        raise AssertionError("read too far")

    first = Corpus("endless", texts).take(2)
    assert list(first) == TEXTS
    assert (len(first), first.name) == (2, "endless[:2]")
    with pytest.raises(ValueError, match="take at least 1 text, not 0"):
        first.take(0)


def test_map_changes_texts_and_keeps_the_rest() -> None:
    corpus = read(TEXTS).map(lambda text: replace(text, labels={"long": len(text.content) > 11}))
    assert [dict(text.labels) for text in corpus] == [{"long": True}, {"long": False}]
    assert corpus.text_labels == ("long",)


def grouped(count: int, groups: int) -> Corpus:
    return read([{"text": f"text {i}", "g": i % groups} for i in range(count)], group="g")


@pytest.mark.parametrize("test", [0.1, 0.3, 0.5])
def test_split_keeps_groups_whole(test: float) -> None:
    corpus = grouped(200, 40)
    fit, held = corpus.split(test, seed=3)
    assert sorted(t.id for part in (fit, held) for t in part) == sorted(t.id for t in corpus)
    assert not {text.group for text in fit} & {text.group for text in held}
    assert len(held) == pytest.approx(200 * test, abs=5)


def test_split_follows_its_seed() -> None:
    corpus = grouped(50, 50)
    first, again, other = (corpus.split(seed=seed)[1].fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_split_of_one_large_group_and_a_small_one_leaves_neither_part_empty() -> None:
    corpus = read([{"text": "a", "g": i // 99} for i in range(100)], group="g")
    assert sorted(len(part) for part in corpus.split(0.9)) == [1, 99]
    assert [len(part) for part in grouped(50, 10).split(0.99)] == [5, 45]
    assert [len(part) for part in grouped(50, 10).split(0.01)] == [45, 5]


def test_what_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"'table' is one group|'texts' is one group \('doc'\)"):
        read(TEXTS).split()
    with pytest.raises(ValueError, match="between 0 and 1, not 30"):
        grouped(9, 3).split(30)


def test_a_file_that_changes_after_it_was_counted_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    corpus = read(path)
    assert len(corpus) == 2
    path.write_text("one\nsix\n")
    os.utime(path, ns=(0, 1))
    with pytest.raises(ValueError, match="the files of 'a' changed after they were counted"):
        list(corpus)
    assert len(read(path)) == 2


def test_a_name_cannot_label_texts_and_words() -> None:
    spans = [{"start": 0, "end": 1, "mood": "x"}]
    with pytest.raises(ValueError, match=r"\['mood'\] label both texts and words"):
        len(read([{"text": "a", "mood": "calm", "words": spans}]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"start": (0,), "end": (1, 2), "labels": {}}, "1 words, but 2 values under 'end'"),
        ({"start": (0,), "end": (1,), "labels": {"upos": ()}}, "1 words, but 0 values under 'upos'"),
        ({"start": (0,), "end": (0,), "labels": {}}, "a word from 0 to 0 covers no characters"),
        ({"start": (2, 0), "end": (3, 1), "labels": {}}, "the word at 0 comes after one at 2"),
    ],
)  # fmt: skip
def test_words_that_make_no_sense(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Words(**words)


def test_a_word_beyond_its_text() -> None:
    with pytest.raises(ValueError, match=r"text 'x' has 2 characters, but .* ends at 3"):
        Text("ab", "x", "x", {}, Words((0,), (3,), {"word": ("abc",)}))
