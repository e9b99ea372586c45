"""Dependency trees as constituents: every head with all that hangs from it is one part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layerscope.corpus.tree_tuples import Node, Tree
from layerscope.probes.trees.words import Ints


def projected_tree(heads: Ints, labels: Sequence[str]) -> Tree:
    """The tree over words 0, 1, 2... in which each head and its dependents are a node.

    Args:
        heads: ``[words]`` from 0, -1 for the root; projective (see `lifted`).
        labels: ``[words]``: what the node of each word is called.
    """
    below: list[list[int]] = [[] for _ in heads]
    for word, head in enumerate(heads.tolist()):
        if head >= 0:
            below[head].append(word)
    made: dict[int, Node] = {}
    root = int(np.flatnonzero(heads < 0)[0])
    waiting = [(root, False)]
    while waiting:
        word, seen = waiting.pop()
        if not seen:
            waiting.append((word, True))
            waiting += [(child, False) for child in below[word]]
            continue
        places = sorted([*below[word], word])
        children = (place if place == word else made.pop(place) for place in places)
        made[word] = Node(labels[word], tuple(children))
    return made[root]


def lifted(heads: Ints) -> tuple[Ints, int]:
    """A projective tree, and how many words were moved up to make it one.

    While an arc passes over a word that does not hang from its head, the dependent of the shortest
    such arc moves to the head of its head (Nivre and Nilsson 2005).
    """
    found, moved = heads.copy(), 0
    while True:
        crossing = _crossing(found)
        if crossing < 0:
            return found, moved
        found[crossing] = found[found[crossing]]
        moved += 1


def _crossing(heads: Ints) -> int:
    """The dependent of the shortest arc that passes over a word not below its head; -1 if none."""
    best, least = -1, len(heads) + 1
    for word, head in enumerate(heads.tolist()):
        length = abs(word - head)
        if head < 0 or length >= least:
            continue
        for between in range(min(word, head) + 1, max(word, head)):
            at = between
            while at >= 0 and at != head:
                at = int(heads[at])
            if at < 0:
                best, least = word, length
                break
    return best
