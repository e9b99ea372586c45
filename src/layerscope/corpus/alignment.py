"""Which word each token belongs to, by the characters they share.

Both sides are spans of characters in the same text: a fast tokenizer's offsets, and `Words`. No
assumption is made about either side: a token may cover two words, several tokens one character
(the bytes of an emoji), words may overlap, and special tokens have the empty span (0, 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from layerscope.corpus.text import Words

Integers = NDArray[np.int64]


def token_word(offsets: Any, words: Words) -> Integers:
    """The word that shares most characters with each token; the first of equals.

    Args:
        offsets: ``[n, 2]`` start and end character of each token; anything `numpy.asarray` takes.
        words: The labelled spans of the same text.

    Returns:
        ``[n]`` index into `words`, or -1 where a token shares no character with any word.
    """
    spans = _spans(offsets)
    token, word, shared = _overlaps(spans, words)
    # Within a token: most characters first, then the first word.
    order = np.lexsort((word, -shared, token))
    tokens, first = np.unique(token[order], return_index=True)
    found = np.full(len(spans), -1)
    found[tokens] = word[order][first]
    return found


def word_tokens(offsets: Any, words: Words) -> tuple[Integers, Integers]:
    """Every pair of a word and a token that share a character, by word, then by token.

    A token that crosses words appears once with each of them.

    Args:
        offsets: ``[n, 2]`` start and end character of each token.
        words: The labelled spans of the same text.

    Returns:
        ``[pairs]`` word indices and ``[pairs]`` token indices. A word that the tokenizer dropped
        appears in no pair.
    """
    token, word, _ = _overlaps(_spans(offsets), words)
    order = np.lexsort((token, word))
    return word[order], token[order]


def _spans(offsets: Any) -> Integers:
    spans = np.asarray(offsets, dtype=np.int64)
    if spans.size == 0:
        return spans.reshape(0, 2)
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"offsets are [tokens, 2] (start, end), not {list(spans.shape)}")
    return spans


def _overlaps(spans: Integers, words: Words) -> tuple[Integers, Integers, Integers]:
    """(token, word, shared characters) of every pair that shares at least one."""
    start, end = np.asarray(words.start, dtype=np.int64), np.asarray(words.end, dtype=np.int64)
    # Starts are sorted, and so is the furthest end so far: the words that can touch a token
    # lie between two binary searches, even where words overlap each other.
    first = np.searchsorted(np.maximum.accumulate(end), spans[:, 0], side="right")
    last = np.searchsorted(start, spans[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    token = np.repeat(np.arange(len(spans)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    word = np.repeat(first, counts) + within
    shared = np.minimum(end[word], spans[token, 1]) - np.maximum(start[word], spans[token, 0])
    touching = shared > 0
    return token[touching], word[touching], shared[touching]
