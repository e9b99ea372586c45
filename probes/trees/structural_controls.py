"""What a structural probe is held against: no training, no activations, and a tree to know by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layerscope.probes.trees.dependency import Forest, tree_depths, tree_distances
from layerscope.probes.trees.tree_scores import TreeScores, tree_scores


def control_forest(trees: Forest, *, seed: int) -> Forest:
    """One tree for all sentences of a length: a gold tree of that length, its words exchanged.

    A tree of the usual shapes that says nothing of the words: only what knows the length of the
    sentence and the place of a word in it can find this tree.
    """
    generator = np.random.default_rng(seed)
    lengths = trees.words.lengths
    chosen: dict[int, np.ndarray] = {}
    for length in np.unique(lengths).tolist():
        heads = trees.heads[generator.choice(np.flatnonzero(lengths == length))]
        name = generator.permutation(length)
        moved = np.full(length, -1, dtype=np.int64)
        moved[name] = np.where(heads >= 0, name[heads], -1)
        chosen[length] = moved
    return replace(trees, heads=tuple(chosen[length] for length in lengths.tolist()))


def chain_scores(trees: Forest) -> TreeScores:
    """Every word hangs from the one before it: what word order alone gives.

    Words of punctuation are passed over, as they are where edges are scored.
    """
    distances, depths = [], []
    for mask in trees.scored:
        heads = np.arange(len(mask)) - 1
        far = tree_distances(heads)
        distances.append(far)
        depths.append(tree_depths(heads))
    return tree_scores(trees, distances, depths)
