"""Words meet tokens by characters: known cases, and a reference that counts one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope.corpus import Words
from layerscope.corpus.alignment import token_word, word_tokens

Spans = list[tuple[int, int]]


def words(*spans: tuple[int, int]) -> Words:
    start, end = zip(*spans, strict=True) if spans else ((), ())
    return Words(start, end, {"word": ("",) * len(spans)})


def pairs(offsets: Spans, of: Words) -> Spans:
    word, token = word_tokens(offsets, of)
    return list(zip(word.tolist(), token.tolist(), strict=True))


THE_CAT = words((0, 3), (4, 7))


@pytest.mark.parametrize(
    ("case", "offsets", "of", "word"),
    [
        ("a token each", [(0, 3), (4, 7)], THE_CAT, [0, 1]),
        ("leading space", [(0, 3), (3, 7)], THE_CAT, [0, 1]),
        ("pieces", [(0, 1), (1, 3), (3, 4), (4, 7)], THE_CAT, [0, 0, -1, 1]),
        ("a piece across words: the larger share", [(0, 6)], THE_CAT, [0]),
        ("a piece across words: the first of equals", [(0, 7)], THE_CAT, [0]),
        ("a piece across words: the second where it is larger", [(2, 7)], THE_CAT, [1]),
        ("special tokens and padding", [(0, 0), (0, 3), (7, 7), (0, 0)], THE_CAT, [-1, 0, -1, -1]),
        ("an empty span inside a word is nothing", [(1, 1), (5, 5)], THE_CAT, [-1, -1]),
        ("four bytes of one character", [(0, 1)] * 4, words((0, 1)), [0] * 4),
        ("between and after words", [(3, 4), (7, 9)], THE_CAT, [-1, -1]),
        ("tokens out of order", [(4, 7), (0, 3)], THE_CAT, [1, 0]),
        ("no words", [(0, 3)], words(), [-1]),
        ("no tokens", [], THE_CAT, []),
        ("words that share a span: the first", [(0, 2)], words((0, 2), (0, 2)), [0]),
        ("a long word over a short one", [(5, 9)], words((0, 9), (1, 2)), [0]),
    ],
)  # fmt: skip
def test_known_cases(case: str, offsets: Spans, of: Words, word: list[int]) -> None:
    assert token_word(offsets, of).tolist() == word, case


def test_pairs_hold_every_overlap_by_word_then_token() -> None:
    assert pairs([(0, 0), (0, 1), (1, 6), (6, 7)], THE_CAT) == [(0, 1), (0, 2), (1, 2), (1, 3)]
    assert pairs([(0, 2)], words((0, 2), (0, 2))) == [(0, 0), (1, 0)]
    assert pairs([(3, 4)], THE_CAT) == []


def shared(left: tuple[int, int], right: tuple[int, int]) -> int:
    """Characters in both spans, counted one by one."""
    return len(set(range(*left)) & set(range(*right)))


def reference_word(offsets: Spans, spans: Spans) -> list[int]:
    found = []
    for offset in offsets:
        best, most = -1, 0
        for index, span in enumerate(spans):
            if shared(offset, span) > most:
                best, most = index, shared(offset, span)
        found.append(best)
    return found


def reference_pairs(offsets: Spans, spans: Spans) -> Spans:
    return [
        (w, t)
        for w, span in enumerate(spans)
        for t, offset in enumerate(offsets)
        if shared(span, offset)
    ]


def spans(least: int) -> st.SearchStrategy[Spans]:
    one = st.tuples(st.integers(0, 12), st.integers(least, 5)).map(lambda s: (s[0], s[0] + s[1]))
    return st.lists(one, max_size=8)


@given(spans(0), spans(1))
def test_the_reference_agrees_on_any_spans(offsets: Spans, unsorted: Spans) -> None:
    ordered = sorted(unsorted, key=lambda span: span[0])
    assert token_word(offsets, words(*ordered)).tolist() == reference_word(offsets, ordered)
    assert pairs(offsets, words(*ordered)) == reference_pairs(offsets, ordered)


def test_ten_thousand_tokens_make_no_table_of_tokens_by_words() -> None:
    starts = np.arange(10_000) * 5
    of = words(*zip(starts.tolist(), (starts + 4).tolist(), strict=True))
    offsets = np.stack([starts, starts + 4], axis=1)
    assert token_word(offsets, of).tolist() == list(range(10_000))
    word, token = word_tokens(offsets, of)
    assert len(word) == len(token) == 10_000


def test_offsets_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"offsets are \[tokens, 2\] .*, not \[3\]"):
        token_word([0, 1, 2], THE_CAT)
