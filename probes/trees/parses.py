"""Labelled trees over the words of a store: syntax trees of code, or dependency trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.corpus.tree_tuples import TreeTuple, constituents, decode, encode
from layerscope.probes.trees.dependency import forest
from layerscope.probes.trees.projections import lifted, projected_tree
from layerscope.probes.trees.words import WordRows, thinned, whole, word_rows

if TYPE_CHECKING:
    from layerscope.store import Store

COLUMNS = ("tree_height", "tree_label", "tree_unary")
LEAST = 3
"""Words of the shortest text whose tree can be right or wrong."""
Span = tuple[str, int, int]


@dataclass(frozen=True)
class Parses:
    """Texts, each with one labelled tree over its words."""

    words: WordRows
    trees: tuple[TreeTuple, ...]
    label: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.trees)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Those between words, sorted."""
        return tuple(sorted({label for tree in self.trees for label in tree.labels}))

    @cached_property
    def unary(self) -> tuple[str, ...]:
        """Those on words, sorted."""
        return tuple(sorted({label for tree in self.trees for label in tree.unary}))

    @cached_property
    def spans(self) -> list[list[Span]]:
        """The constituents of each text."""
        return [list(constituents(decode(tree))) for tree in self.trees]


def parses(store: Store, *, max_words: int, seed: int) -> Parses:
    """The trees of a store: from Python sources, or else from the dependency heads of CoNLL-U.

    Raises:
        LookupError: the store has neither.
        ValueError: rows are not words, or no text has a tree.
    """
    there = store.rows.columns
    if COLUMNS[0] in there:
        return _from_tuples(store, max_words, seed)
    if "head" not in there:
        raise LookupError(
            "trees are in the labels of words: 'tree_height' (read a .py file) or 'head' (read "
            f"CoNLL-U); these rows have: {', '.join(map(repr, store.labels)) or 'none'}"
        )
    return _from_heads(store, max_words, seed)


def _from_tuples(store: Store, max_words: int, seed: int) -> Parses:
    words = word_rows(store, COLUMNS[0], what="syntax trees")
    notes: list[str] = []
    complete = whole(words, store)
    long = words.lengths >= LEAST
    for mask, why in (
        (~complete, "words missing (cut off, or in no row)"),
        (complete & ~long, f"fewer than {LEAST} words"),
    ):
        if mask.any():
            notes.append(f"{int(mask.sum()):,} of {len(mask):,} texts left out: {why}")
    if not (complete & long).any():
        raise ValueError(f"no text with a whole tree: {'; '.join(notes)}; use shorter texts")
    words = thinned(words.only(complete & long), max_words, seed, notes)
    frame = store.rows
    parts = zip(*(words.parts(words.column(frame, name)) for name in COLUMNS), strict=True)
    trees = tuple(_tuple(*columns) for columns in parts)
    return Parses(words, trees, "syntax tree", tuple(notes))


def _tuple(heights: Any, labels: Any, unary: Any) -> TreeTuple:
    if any(height is None or np.isnan(height) for height in heights[1:]):
        raise ValueError("a word without tree_height: read the .py file again")
    return TreeTuple(tuple(int(height) for height in heights[1:]), tuple(labels[1:]), tuple(unary))


def _from_heads(store: Store, max_words: int, seed: int) -> Parses:
    trees = forest(store, max_words=max_words, seed=seed)
    long = np.array([len(heads) >= LEAST for heads in trees.heads])
    if not long.any():
        raise ValueError(
            f"no sentence has {LEAST} words; a tree needs that many, take longer texts"
        )
    words = trees.words.only(long)
    frame = store.rows
    notes = list(trees.notes)
    name = "deprel" if "deprel" in frame else "upos" if "upos" in frame else None
    labels = words.parts(words.column(frame, name) if name else ["phrase"] * int(words.starts[-1]))
    made, moved = [], 0
    heads = (heads for heads, kept in zip(trees.heads, long, strict=True) if kept)
    for own, names in zip(heads, labels, strict=True):
        flat, count = lifted(own)
        moved += count > 0
        made.append(encode(projected_tree(flat, [str(one).split(":")[0] for one in names])))
    if moved:
        notes.append(
            f"{moved:,} of {len(made):,} trees have crossing arcs; a word in them was moved up until "
            "none crossed"
        )
    return Parses(words, tuple(made), "dependency tree", tuple(notes))
