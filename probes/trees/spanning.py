"""Minimum spanning trees of predicted distances, of all sentences at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.trees.words import Ints

Floats = NDArray[np.float64]
_ABOVE_ZERO = 1e-9
"""Added to every distance: a sparse matrix takes 0 for no edge."""


def spanning_trees(
    distances: Sequence[NDArray[Any]], allowed: Sequence[NDArray[np.bool_]]
) -> list[Ints]:
    """The edges of each sentence's minimum spanning tree over the words that are allowed.

    Args:
        distances: For each sentence ``[words, words]``, symmetric, not negative.
        allowed: For each sentence ``[words]``.

    Returns:
        For each sentence ``[edges, 2]``, the smaller word first, sorted.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    starts = np.concatenate([[0], np.cumsum([len(mask) for mask in allowed])])
    left, right, length = [], [], []
    for start, table, mask in zip(starts, distances, allowed, strict=False):
        words = np.flatnonzero(mask)
        a, b = (words[side] for side in np.triu_indices(len(words), 1))
        left.append(a + start)
        right.append(b + start)
        length.append(np.asarray(table, dtype=np.float64)[a, b])
    ends = (np.concatenate(left), np.concatenate(right))
    weights = np.concatenate(length) + _ABOVE_ZERO
    graph = coo_array((weights, ends), shape=(int(starts[-1]), int(starts[-1]))).tocsr()
    tree = minimum_spanning_tree(graph).tocoo()
    edges = np.sort(np.stack([tree.row, tree.col], axis=1).astype(np.int64), axis=1)
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    cut = np.searchsorted(edges[:, 0], starts)
    return [edges[a:b] - start for start, a, b in zip(starts, cut, cut[1:], strict=False)]


def hung(edges: Ints, root: int, words: int) -> Ints:
    """Heads ``[words]`` of an undirected tree that hangs from its root.

    The root has -1; so have words that no edge reaches.
    """
    near: list[list[int]] = [[] for _ in range(words)]
    for a, b in edges.tolist():
        near[a].append(b)
        near[b].append(a)
    heads = np.full(words, -1, dtype=np.int64)
    waiting, seen = [root], {root}
    while waiting:
        word = waiting.pop()
        for other in near[word]:
            if other not in seen:
                seen.add(other)
                heads[other] = word
                waiting.append(other)
    return heads
