"""Activations that hold trees exactly: what a structural probe and an AST probe must find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DependencyPlant:
    """Sentences whose words lie as their tree says, beneath noise and a rotation."""

    x: Tensor
    """``[words, width]``, one sentence after the other."""
    heads: tuple[Ints, ...]
    """For each sentence ``[words]``: number of the head from 0, -1 for the root."""
    probe: Tensor
    """``[axes, width]`` the true probe: ``|B(h_i - h_j)|^2`` is the distance in the tree of `i` and
    `j`, and ``|B h_i|^2`` the depth of `i`."""


def dependency_plant(
    sentences: int = 200,
    *,
    shortest: int = 5,
    longest: int = 20,
    axes: int = 30,
    noise: int = 18,
    seed: int = 0,
) -> DependencyPlant:
    """Each word is the sum of the unit axes of the edges on its path to the root.

    The axes of a sentence are drawn without replacement; unit Gaussian noise fills further
    dimensions, and one orthogonal matrix turns all of it. A probe that sees the axes has UUAS, DSpr
    and root accuracy 1; the distances of the activations themselves do not.

    Raises:
        ValueError: sentences with more edges than there are axes.
    """
    if longest - 1 > axes:
        raise ValueError(f"{longest} words have {longest - 1} edges, but there are {axes} axes")
    generator = np.random.default_rng(seed)
    rows, heads = [], []
    for _ in range(sentences):
        tree = random_heads(int(generator.integers(shortest, longest + 1)), generator)
        chosen = np.zeros(len(tree), dtype=np.int64)
        chosen[tree >= 0] = generator.permutation(axes)[: len(tree) - 1]
        rows.append(_paths(tree, chosen, axes))
        heads.append(tree)
    nodes = np.concatenate(rows)
    full = np.concatenate([nodes, generator.normal(size=(len(nodes), noise))], axis=1)
    turn = np.linalg.qr(generator.normal(size=(axes + noise, axes + noise)))[0]
    return DependencyPlant(
        x=torch.from_numpy(full @ turn).float(),
        heads=tuple(heads),
        probe=torch.from_numpy(turn[:axes]).float(),
    )


def random_heads(words: int, generator: np.random.Generator) -> Ints:
    """A tree in which every word hangs from a random one before it, with its words shuffled."""
    name = generator.permutation(words)
    heads = np.full(words, -1, dtype=np.int64)
    for place in range(1, words):
        heads[name[place]] = name[generator.integers(place)]
    return heads


def _paths(heads: Ints, axes: Ints, width: int) -> NDArray[np.float64]:
    found = np.zeros((len(heads), width))
    for word in range(len(heads)):
        at = word
        while heads[at] >= 0:
            found[word, axes[at]] = 1.0
            at = heads[at]
    return found


@dataclass(frozen=True)
class BinaryPlant:
    """Texts whose words lie as the tuple of their binary tree says."""

    x: Tensor
    """``[words, width]``, one text after the other."""
    heights: tuple[tuple[int, ...], ...]
    """For each text ``[words - 1]``: height of the lowest common ancestor of neighbours."""
    labels: tuple[tuple[str, ...], ...]
    """For each text ``[words - 1]``: label of that ancestor."""
    unary: tuple[tuple[str, ...], ...]
    """For each text ``[words]``: label of the word itself."""
    rank: int
    """Directions that carry all of it."""


def binary_plant(
    texts: int = 200,
    *,
    shortest: int = 4,
    longest: int = 16,
    labels: int = 6,
    unary: int = 5,
    noise: int = 12,
    width: int = 64,
    seed: int = 0,
) -> BinaryPlant:
    """From a word to the next: ``sqrt(2 height)`` along the axis of the label between them.

    A short step (0.05) along the axis of its own label is on each word, in axes of their own. Unit
    Gaussian noise fills `noise` further dimensions and the rest stay empty; one orthogonal matrix
    turns all of it. The right projection reads every tree: F1 is 1.

    Raises:
        ValueError: fewer dimensions than axes.
    """
    if labels + unary + noise > width:
        raise ValueError(f"{labels} + {unary} + {noise} axes do not fit into {width} dimensions")
    generator = np.random.default_rng(seed)
    rows, trees = [], []
    for _ in range(texts):
        words = int(generator.integers(shortest, longest + 1))
        heights = random_heights(words, generator)
        between = generator.integers(labels, size=words - 1)
        alone = generator.integers(unary, size=words)
        steps = np.zeros((words, width))
        steps[np.arange(1, words), between] = np.sqrt(2 * heights)
        place = steps.cumsum(0)
        place[np.arange(words), labels + alone] += 0.05
        place[:, labels + unary : labels + unary + noise] = generator.normal(size=(words, noise))
        rows.append(place)
        trees.append((heights, between, alone))
    turn = np.linalg.qr(generator.normal(size=(width, width)))[0]
    return BinaryPlant(
        x=torch.from_numpy(np.concatenate(rows) @ turn).float(),
        heights=tuple(tuple(tree[0].tolist()) for tree in trees),
        labels=tuple(tuple(f"n{label}" for label in tree[1]) for tree in trees),
        unary=tuple(tuple(f"w{label}" for label in tree[2]) for tree in trees),
        rank=labels + unary,
    )


def random_heights(words: int, generator: np.random.Generator) -> Ints:
    """Heights ``[words - 1]`` of a binary tree that is split at random places."""
    found = np.zeros(words - 1, dtype=np.int64)

    def fill(first: int, last: int) -> int:
        if first == last:
            return 0
        split = int(generator.integers(first, last))
        found[split] = 1 + max(fill(first, split), fill(split + 1, last))
        return int(found[split])

    fill(0, words - 1)
    return found
