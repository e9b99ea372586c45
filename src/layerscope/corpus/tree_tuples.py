"""A labelled tree over words as one height and two labels a word, from which it is built again.

The encoding of Hernandez Lopez, Weyssow, Sanchez Cuadrado and Sahraoui, *AST-Probe* (2022). The tree is
made binary (chains of single children merge into one label, further children go down to the right
under empty nodes); between two neighbouring words stand the height of their lowest common ancestor
and its label, and on every word the chain of nodes that hold it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

EMPTY = "∅"
"""Label of a node that only makes the tree binary, and of a word without a node of its own."""
SEP = "<sep>"
"""Between the labels of a chain, the outer one first."""


@dataclass(frozen=True)
class Node:
    """A part of a text: its label, and what it is made of from left to right."""

    label: str
    children: tuple[Node | int, ...]
    """Nodes, and numbers of words."""


Tree = Node | int


@dataclass(frozen=True)
class TreeTuple:
    """A tree over ``n`` words."""

    heights: tuple[int, ...]
    """``[n - 1]`` of the lowest common ancestor of words `i` and `i + 1`; a word has height 0."""
    labels: tuple[str, ...]
    """``[n - 1]`` of that ancestor."""
    unary: tuple[str, ...]
    """``[n]`` nodes that hold this word alone."""

    def __len__(self) -> int:
        return len(self.unary)


def encode(tree: Tree) -> TreeTuple:
    """The tuple of a tree whose leaves are the words 0, 1, 2... from left to right.

    Raises:
        ValueError: a node without children, or words that are not 0, 1, 2... in order.
    """
    heights: list[int] = []
    labels: list[str] = []
    unary: list[str] = []
    # Boundaries inside a node are known once all of its children are: two visits, no recursion.
    waiting: list[tuple[Tree, bool]] = [(tree, False)]
    done: list[tuple[int, int]] = []  # (first boundary after it, height) of finished nodes
    while waiting:
        node, seen = waiting.pop()
        chain, inner = _chain(node)
        if isinstance(inner, int):
            if inner != len(unary):
                raise ValueError(f"word {inner} stands where word {len(unary)} was expected")
            unary.append(chain)
            heights.append(0)
            labels.append(EMPTY)
            done.append((len(unary) - 1, 0))
        elif not seen:
            waiting.append((node, True))
            waiting += [(child, False) for child in reversed(inner.children)]
        else:
            parts = done[-len(inner.children) :]
            del done[-len(inner.children) :]
            below = parts[-1][1]
            for (_, height), (boundary, _) in zip(parts[-2::-1], _lasts(parts), strict=True):
                below = 1 + max(height, below)
                heights[boundary] = below
            labels[parts[0][0]] = chain
            done.append((parts[-1][0], below))
    return TreeTuple(tuple(heights[:-1]), tuple(labels[:-1]), tuple(unary))


def _lasts(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts but the last, from right to left: each ends at the boundary after its last word."""
    return list(parts[-2::-1])


def _chain(node: Tree) -> tuple[str, Tree]:
    """Labels of nodes with a single child, and what they hold; with the label of a larger node."""
    labels: list[str] = []
    while isinstance(node, Node):
        if not node.children:
            raise ValueError(f"a node {node.label!r} holds no word")
        labels.append(node.label)
        if len(node.children) > 1:
            break
        node = node.children[0]
    return SEP.join(labels) or EMPTY, node


def decode(coded: TreeTuple) -> Tree:
    """The tree again; `encode` and `decode` undo each other.

    Any heights and labels make some tree: where the highest node is empty, so is the label of the
    tree. Of equal heights the first is the higher node.
    """
    words = len(coded)
    left, right, top = _binary(coded.heights)
    parts: dict[int, list[Tree]] = {}
    for split in _upwards(left, right, top):
        children: list[Tree] = []
        for below, word in ((left[split], split), (right[split], split + 1)):
            children += [_wrapped(coded.unary[word], word)] if below < 0 else parts.pop(below)
        label = coded.labels[split]
        parts[split] = children if label == EMPTY else [_nested(label, tuple(children))]
    if words == 1:
        return _wrapped(coded.unary[0], 0)
    found = parts[top]
    return found[0] if len(found) == 1 else Node(EMPTY, tuple(found))


def _binary(heights: Sequence[int]) -> tuple[list[int], list[int], int]:
    """For each boundary the boundary below it to the left and to the right (-1: a word), and the top."""
    left, right = [-1] * len(heights), [-1] * len(heights)
    open_: list[int] = []
    for split, height in enumerate(heights):
        below = -1
        while open_ and heights[open_[-1]] < height:
            below = open_.pop()
        left[split] = below
        if open_:
            right[open_[-1]] = split
        open_.append(split)
    return left, right, open_[0] if open_ else -1


def _upwards(left: list[int], right: list[int], top: int) -> list[int]:
    """Boundaries, each after those below it."""
    order, waiting = [], [top] if top >= 0 else []
    while waiting:
        split = waiting.pop()
        order.append(split)
        waiting += [below for below in (left[split], right[split]) if below >= 0]
    return order[::-1]


def _wrapped(chain: str, word: int) -> Tree:
    if chain == EMPTY:
        return word
    return _nested(chain, (word,))


def _nested(chain: str, children: tuple[Tree, ...]) -> Node:
    labels = chain.split(SEP)
    node = Node(labels[-1], children)
    for label in reversed(labels[:-1]):
        node = Node(label, (node,))
    return node


def constituents(tree: Tree) -> Iterator[tuple[str, int, int]]:
    """(label, first word, last word) of every node with a label, those above single words too."""
    waiting: list[tuple[Tree, bool]] = [(tree, False)]
    spans: list[tuple[int, int]] = []
    while waiting:
        node, seen = waiting.pop()
        if isinstance(node, int):
            spans.append((node, node))
        elif not seen:
            waiting.append((node, True))
            waiting += [(child, False) for child in reversed(node.children)]
        else:
            first, last = spans[-len(node.children)][0], spans[-1][1]
            del spans[-len(node.children) :]
            spans.append((first, last))
            if node.label != EMPTY:
                yield node.label, first, last
