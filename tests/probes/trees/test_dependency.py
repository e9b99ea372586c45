"""What heads say: distances, depths, and which of them are no trees."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

from layerscope.corpus.tree_tuples import constituents, decode, encode
from layerscope.planted.trees import random_heads
from layerscope.probes.trees.dependency import fault, tree_depths, tree_distances
from layerscope.probes.trees.projections import lifted, projected_tree
from layerscope.probes.trees.words import WordRows, thinned


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        ([2, 0, 2], None),
        ([0], None),
        ([0, 0], "several roots"),
        ([2, 1], "no root"),
        ([2, 1, 0], "a circle"),
        ([0, 3, 4, 2], "a circle"),
        ([2, 0, 4], "a head that is not there"),
        ([2, 0, None], "a word without head"),
        ([2, 0, float("nan")], "a word without head"),
    ],
)
def test_faults(heads: list[float | None], reason: str | None) -> None:
    assert fault(heads) == reason


def test_a_long_chain_is_a_tree_and_a_long_circle_is_none() -> None:
    chain = list(range(300))
    assert fault(chain) is None
    chain[1] = 300
    assert fault(chain) == "a circle"


def test_distances_are_shortest_paths() -> None:
    generator = np.random.default_rng(0)
    for words in (1, 2, 5, 30):
        heads = random_heads(words, generator)
        graph = np.zeros((words, words))
        for word, head in enumerate(heads):
            if head >= 0:
                graph[word, head] = 1
        want = shortest_path(graph, directed=False, unweighted=True)
        np.testing.assert_array_equal(tree_distances(heads), want)
        np.testing.assert_array_equal(tree_depths(heads), want[np.flatnonzero(heads < 0)[0]])


def test_crossing_arcs_are_lifted() -> None:
    """Word 0 hangs from 2 and word 1 from 3, which is not below 2: one of the arcs moves up."""
    heads = np.array([2, 3, -1, 2])
    flat, moved = lifted(heads)
    assert moved == 1
    np.testing.assert_array_equal(flat, [2, 2, -1, 2])
    projective = np.array([1, -1, 3, 1])
    assert lifted(projective)[1] == 0


def test_a_head_and_its_dependents_are_a_constituent() -> None:
    heads = np.array([1, 2, -1, 4, 2])  # the dog chased the cat
    tree = projected_tree(heads, ["det", "nsubj", "root", "det", "obj"])
    assert set(constituents(tree)) == {
        ("det", 0, 0),
        ("nsubj", 0, 1),
        ("root", 0, 4),
        ("det", 3, 3),
        ("obj", 3, 4),
    }


def test_every_tree_of_the_treebank_round_trips(shared_data) -> None:  # type: ignore[no-untyped-def]
    from layerscope.corpus import read

    corpus = read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    trees = moved = 0
    for text in corpus:
        assert text.words is not None
        heads = text.words.labels["head"]
        assert fault(heads) is None
        flat, count = lifted(np.array(heads) - 1)
        moved += count > 0
        tree = projected_tree(flat, [str(name) for name in text.words.labels["deprel"]])
        assert decode(encode(tree)) == tree
        assert len(list(constituents(tree))) == len(heads)
        trees += 1
    assert trees == 2001
    assert 0 < moved < 100


def test_texts_that_are_longer_than_what_may_be_read_are_refused() -> None:
    words = WordRows(
        index=np.arange(30),
        word=np.arange(30),
        starts=np.array([0, 12, 30]),
        texts=np.arange(2),
        groups=np.arange(2),
    )
    notes: list[str] = []
    assert len(thinned(words, 29, 0, notes).texts) == 1
    assert "1 of 2 texts" in notes[0]
    with pytest.raises(ValueError, match=r"max_rows=10 words.*raise max_rows"):
        thinned(words, 10, 0, notes)
