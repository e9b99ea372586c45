"""How well distances and depths agree with trees: UUAS, DSpr, root accuracy and NSpr.

The measures of Hewitt and Manning (2019). Predictions are rounded before they are ranked: distances in
a tree are whole numbers with many ties, which the noise of floating point would break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.trees.dependency import Forest
from layerscope.probes.trees.spanning import spanning_trees

Floats = NDArray[np.float64]

DIGITS = 2
"""Decimals that ranks are taken of."""
LENGTHS = (5, 50)
"""Shortest and longest sentence that rank correlations are averaged over."""
MEASURES = ("uuas", "dspr", "root", "nspr")


@dataclass(frozen=True)
class TreeScores:
    """Of each sentence; all arrays are ``[sentences]``."""

    hits: Floats
    """Edges of the tree that are found."""
    edges: Floats
    """Edges of the tree, those of punctuation left out."""
    dspr: Floats
    """Sum over words of the rank correlation of its distances to all words."""
    nspr: Floats
    """Rank correlation of the depths of its words."""
    root: Floats
    """1 where the least depth is the root's."""
    lengths: NDArray[np.int64]
    """Words."""

    def value(self, measure: str) -> float:
        """One of `MEASURES`, over all sentences."""
        return float(self._draws(measure, np.ones((1, len(self.lengths))))[0])

    def interval(self, measure: str, bootstrap: GroupBootstrap) -> tuple[float, float]:
        """95 %, by resampling groups of sentences."""
        times = bootstrap.times.astype(np.float64)
        low, high = np.percentile(self._draws(measure, times, bootstrap.groups), [2.5, 97.5])
        return float(low), float(high)

    def _draws(
        self, measure: str, times: Floats, groups: NDArray[np.int64] | None = None
    ) -> Floats:
        """``[draws]`` of the measure with each group taken so many times, ``[draws, groups]``."""
        owner = np.arange(len(self.lengths)) if groups is None else groups
        size = times.shape[1]
        if measure in ("uuas", "root"):
            good = self.hits if measure == "uuas" else self.root
            whole = self.edges if measure == "uuas" else np.ones(len(self.root))
            top, bottom = (times @ np.bincount(owner, part, size) for part in (good, whole))
            return np.asarray(top / np.maximum(bottom, 1e-12))
        good = self.dspr if measure == "dspr" else self.nspr
        of: Floats = (
            self.lengths.astype(np.float64) if measure == "dspr" else np.ones(len(self.lengths))
        )
        means = []
        for length in self.averaged:
            here = self.lengths == length
            top, bottom = (
                times @ np.bincount(owner[here], part[here], size) for part in (good, of)
            )
            means.append(np.where(bottom > 0, top / np.maximum(bottom, 1e-12), np.nan))
        return np.asarray(np.nanmean(np.stack(means), axis=0))

    @property
    def averaged(self) -> NDArray[np.int64]:
        """Lengths that rank correlations are averaged over: those within `LENGTHS`, if any."""
        there = np.unique(self.lengths)
        usual = there[(there >= LENGTHS[0]) & (there <= LENGTHS[1])]
        return usual if len(usual) else there


def tree_scores(
    trees: Forest, distances: Sequence[NDArray[Any]], depths: Sequence[NDArray[Any]]
) -> TreeScores:
    """Score predictions against the trees.

    Args:
        distances: For each sentence ``[words, words]``.
        depths: For each sentence ``[words]``.
    """
    edges = spanning_trees(distances, trees.scored)
    gold = [tree_edges(*tree) for tree in zip(trees.heads, trees.scored, strict=True)]
    hits = [
        len(tree & set(map(tuple, own.tolist()))) for tree, own in zip(gold, edges, strict=True)
    ]
    roots = zip(trees.heads, trees.scored, depths, strict=True)
    lengths = trees.words.lengths
    return TreeScores(
        hits=np.array(hits, dtype=np.float64),
        edges=np.array([len(tree) for tree in gold], dtype=np.float64),
        dspr=_by_length(lengths, distances, trees.distances),
        nspr=_by_length(lengths, depths, trees.depths),
        root=np.array([_root_found(*root) for root in roots], dtype=np.float64),
        lengths=lengths,
    )


def tree_edges(heads: NDArray[np.int64], scored: NDArray[np.bool_]) -> set[tuple[int, int]]:
    """Edges of a tree between words that are scored, the smaller word first."""
    words = np.flatnonzero((heads >= 0) & scored & scored[heads])
    return {
        (min(a, b), max(a, b)) for a, b in zip(words.tolist(), heads[words].tolist(), strict=True)
    }


def rank_correlation(guess: NDArray[Any], truth: NDArray[Any]) -> Floats:
    """Spearman's correlation along the last axis, with ties at their mean rank; 0 of a constant."""
    from scipy.stats import rankdata

    a = rankdata(np.round(np.asarray(guess, dtype=np.float64), DIGITS), axis=-1)
    b = rankdata(truth, axis=-1)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.asarray(np.where(size > 0, (a * b).sum(-1) / np.where(size > 0, size, 1), 0.0))


def _by_length(
    lengths: NDArray[np.int64], guess: Sequence[NDArray[Any]], truth: Sequence[NDArray[Any]]
) -> Floats:
    """``[sentences]`` rank correlations, summed over the words of each where they have rows."""
    found = np.zeros(len(lengths))
    for length in np.unique(lengths):
        here = np.flatnonzero(lengths == length).tolist()
        values = rank_correlation(*(np.stack([part[i] for i in here]) for part in (guess, truth)))
        found[np.array(here)] = values if values.ndim == 1 else values.sum(1)
    return found


def _root_found(heads: NDArray[np.int64], scored: NDArray[np.bool_], depths: NDArray[Any]) -> bool:
    candidates = np.flatnonzero(scored)
    if not len(candidates):
        return False
    return bool(heads[candidates[np.argmin(np.asarray(depths)[candidates])]] < 0)
