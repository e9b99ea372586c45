"""A tree as one height and two labels a word, and back."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.corpus.tree_tuples import (
    EMPTY,
    SEP,
    Node,
    Tree,
    TreeTuple,
    constituents,
    decode,
    encode,
)


def random_tree(generator: np.random.Generator, words: int) -> Tree:
    """Any shape: chains, flat nodes, deep nodes."""

    def grow(first: int, last: int, depth: int) -> Tree:
        label = f"n{generator.integers(4)}"
        if depth > 3 * words or (first == last and generator.random() < 0.6):
            return first if first == last else Node(label, tuple(range(first, last + 1)))
        if first == last or generator.random() < 0.2:
            return Node(label, (grow(first, last, depth + 1),))
        parts = int(generator.integers(2, min(5, last - first + 1) + 1))
        cuts = np.sort(generator.choice(np.arange(first + 1, last + 1), parts - 1, replace=False))
        ends = [*(cuts - 1), last]
        spans = zip([first, *cuts], ends, strict=True)
        return Node(label, tuple(grow(int(a), int(b), depth + 1) for a, b in spans))

    return grow(0, words - 1, 0)


def heights_by_definition(tree: Tree) -> list[int]:
    """Of the lowest common ancestor of neighbours in the binary tree, which is built here."""

    def binary(node: Tree) -> Tree:
        if isinstance(node, int):
            return node
        children = [binary(child) for child in node.children]
        if len(children) == 1:
            return children[0]
        while len(children) > 2:
            children[-2:] = [Node(EMPTY, tuple(children[-2:]))]
        return Node(node.label, tuple(children))

    found: list[int] = []

    def visit(node: Tree) -> int:
        if isinstance(node, int):
            return 0
        place = len(found)
        left = visit(node.children[0])
        found.insert(place + count(node.children[0]) - 1, 0)
        own = place + count(node.children[0]) - 1
        found[own] = 1 + max(left, visit(node.children[1]))
        return found[own]

    def count(node: Tree) -> int:
        return 1 if isinstance(node, int) else sum(count(child) for child in node.children)

    visit(binary(tree))
    return found


def test_a_small_tree_by_hand() -> None:
    tree = Node("call", (Node("name", (0,)), 1, Node("args", (Node("name", (2,)), 3))))
    coded = encode(tree)
    assert coded.heights == (3, 2, 1)
    assert coded.labels == ("call", EMPTY, "args")
    assert coded.unary == ("name", EMPTY, "name", EMPTY)
    assert decode(coded) == tree
    assert sorted(constituents(tree)) == [
        ("args", 2, 3),
        ("call", 0, 3),
        ("name", 0, 0),
        ("name", 2, 2),
    ]


def test_chains_of_nodes_merge_and_come_apart() -> None:
    tree = Node("a", (Node("b", (0, Node("c", (Node("d", (1,)),)))),))
    coded = encode(tree)
    assert coded.labels == (f"a{SEP}b",)
    assert coded.unary == (EMPTY, f"c{SEP}d")
    assert decode(coded) == tree


@pytest.mark.parametrize("tree", [0, Node("a", (0,)), Node("a", (Node("b", (0,)),))])
def test_one_word(tree: Tree) -> None:
    assert decode(encode(tree)) == tree


def test_random_trees_come_back() -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        tree = random_tree(generator, int(generator.integers(1, 25)))
        coded = encode(tree)
        assert decode(coded) == tree
        assert list(coded.heights) == heights_by_definition(tree)


def test_long_texts_need_no_recursion() -> None:
    flat = Node("list", tuple(range(5000)))
    deep: Tree = 0
    for word in range(1, 3000):
        deep = Node("plus", (deep, word))
    assert decode(encode(flat)) == flat
    # Trees this deep cannot be compared by ==, which recurses.
    assert sum(1 for _ in constituents(decode(encode(deep)))) == 2999


def test_any_heights_make_a_tree() -> None:
    """Predictions: equal heights, an empty top."""
    found = decode(TreeTuple((1, 1, 1), ("a", EMPTY, "b"), ("u", EMPTY, EMPTY, EMPTY)))
    assert found == Node("a", (Node("u", (0,)), 1, Node("b", (2, 3))))
    top = decode(TreeTuple((2, 1), (EMPTY, "a"), (EMPTY,) * 3))
    assert list(constituents(top)) == [("a", 1, 2)]


def test_refused_trees() -> None:
    with pytest.raises(ValueError, match="'a' holds no word"):
        encode(Node("a", ()))
    with pytest.raises(ValueError, match="word 1 stands where word 0 was expected"):
        encode(Node("a", (1, 0)))
