"""Dependency trees of stored words: what they say, and which of them are no trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.trees.words import Ints, WordRows, thinned, whole, word_rows

if TYPE_CHECKING:
    from layerscope.store import Store

LEAST = 2
"""Words of the shortest sentence that has a tree to find."""


@dataclass(frozen=True)
class Forest:
    """Sentences, each with one tree over its words."""

    words: WordRows
    heads: tuple[Ints, ...]
    """For each sentence ``[words]``: number of the head from 0, -1 for the root."""
    scored: tuple[NDArray[np.bool_], ...]
    """For each sentence ``[words]``: whether the word is no punctuation."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.heads)

    @cached_property
    def distances(self) -> list[NDArray[np.float32]]:
        """For each sentence ``[words, words]`` edges between words."""
        return [tree_distances(heads) for heads in self.heads]

    @cached_property
    def depths(self) -> list[Ints]:
        """For each sentence ``[words]`` edges up to the root."""
        return [tree_depths(heads) for heads in self.heads]


def fault(heads: Sequence[Any]) -> str | None:
    """Why heads are no tree, or None.

    Args:
        heads: As in CoNLL-U: from 1, 0 for the root, None where there is none.

    >>> fault([2, 0, 2]), fault([0, 0]), fault([2, 1, 0])
    (None, 'several roots', 'a circle')
    """
    if any(_missing(head) for head in heads):
        return "a word without head"
    if any(not 0 <= head <= len(heads) for head in heads):
        return "a head that is not there"
    roots = [head for head in heads if head == 0]
    if len(roots) != 1:
        return "several roots" if roots else "no root"
    above = np.concatenate([[0], np.asarray(heads, dtype=np.int64)])
    at = above
    for _ in range(len(heads).bit_length()):
        at = at[at]  # 2, 4, 8... steps up: every word of a tree ends at the root's head, 0
    return "a circle" if at.any() else None


def _missing(value: Any) -> bool:
    return value is None or bool(np.isnan(value))


def tree_distances(heads: Ints) -> NDArray[np.float32]:
    """Edges between every two words, ``[words, words]``.

    Args:
        heads: From 0, -1 for the root.
    """
    found = np.zeros((len(heads), len(heads)), dtype=np.float32)
    placed: list[int] = []
    for word in np.argsort(tree_depths(heads), kind="stable").tolist():
        if heads[word] >= 0:
            found[word, placed] = found[placed, word] = found[heads[word], placed] + 1
        placed.append(word)
    return found


def tree_depths(heads: Ints) -> Ints:
    """Edges up to the root, ``[words]``."""
    depth = np.zeros(len(heads), dtype=np.int64)
    at = heads.copy()
    while (at >= 0).any():
        depth += at >= 0
        at = np.where(at >= 0, heads[at], -1)
    return depth


def forest(store: Store, *, max_words: int, seed: int) -> Forest:
    """The sentences of a store whose heads are trees; the others are counted in the notes.

    Raises:
        LookupError: no label ``head``.
        ValueError: rows are not words, or no sentence has a tree.
    """
    if "head" not in store.rows:
        raise LookupError(
            "dependency trees need a label 'head' for each word (its number in the sentence, 0 for "
            "the root), as CoNLL-U files have; there are: "
            f"{', '.join(map(repr, store.labels)) or 'no labels'}"
        )
    words = word_rows(store, "head", what="dependency trees")
    frame = store.rows
    complete = whole(words, store)
    heads = words.parts(words.column(frame, "head"))
    faults = [_fault(run, full) for run, full in zip(heads, complete, strict=True)]
    notes = _left_out(faults)
    kept = np.array([reason is None for reason in faults])
    if not kept.any():
        raise ValueError(
            f"no sentence with a tree among {len(heads):,}: {'; '.join(notes) or 'there is none'}. "
            "Heads are numbers from 1 in the sentence, 0 for the one root"
        )
    words = thinned(words.only(kept), max_words, seed, notes)
    frame_heads = words.parts(words.column(frame, "head"))
    return Forest(
        words,
        tuple(np.asarray(run, dtype=np.int64) - 1 for run in frame_heads),
        _scored(words, frame, notes),
        tuple(notes),
    )


def _fault(heads: Sequence[Any], complete: bool) -> str | None:
    if not complete:
        return "words missing (cut off, or in no row)"
    return fault(heads) or (f"fewer than {LEAST} words" if len(heads) < LEAST else None)


def _left_out(faults: Sequence[str | None]) -> list[str]:
    counts = Counter(reason for reason in faults if reason is not None)
    total = sum(counts.values())
    if not total:
        return []
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common())
    return [f"{total:,} of {len(faults):,} sentences left out: {reasons}"]


def _scored(words: WordRows, frame: Any, notes: list[str]) -> tuple[NDArray[np.bool_], ...]:
    if "upos" in frame:
        classes = words.column(frame, "upos")
        return tuple(np.array([c != "PUNCT" for c in run]) for run in words.parts(classes))
    forms = words.column(frame, "word") if "word" in frame else None
    if forms is None:
        notes.append("no column says which words are punctuation; all of them are scored")
        return tuple(np.ones(length, dtype=bool) for length in words.lengths)
    return tuple(
        np.array([any(c.isalnum() for c in str(form)) for form in run])
        for run in words.parts(forms)
    )
