"""UUAS, DSpr, root accuracy and NSpr, each a second way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from layerscope.planted.trees import dependency_plant, random_heads
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.trees.dependency import Forest, tree_depths, tree_distances
from layerscope.probes.trees.spanning import hung, spanning_trees
from layerscope.probes.trees.tree_scores import rank_correlation, tree_edges, tree_scores
from layerscope.probes.trees.words import WordRows


def forest_of(heads, scored=None) -> Forest:  # type: ignore[no-untyped-def]
    lengths = [len(tree) for tree in heads]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(starts[-1])
    number = np.arange(len(heads))
    masks = scored or [np.ones(length, dtype=bool) for length in lengths]
    return Forest(WordRows(rows, rows, starts, number, number), tuple(heads), tuple(masks))


def kruskal(distances, words):  # type: ignore[no-untyped-def]
    """The minimum spanning tree, by hand."""
    parent = {word: word for word in words}

    def top(word: int) -> int:
        while parent[word] != word:
            word = parent[word]
        return word

    found = set()
    pairs = [(distances[a, b], a, b) for a in words for b in words if a < b]
    for _, a, b in sorted(pairs):
        if top(a) != top(b):
            parent[top(a)] = top(b)
            found.add((a, b))
    return found


def test_spanning_trees_are_kruskals() -> None:
    generator = np.random.default_rng(0)
    tables, masks = [], []
    for words in (2, 3, 7, 20):
        table = generator.random((words, words))
        tables.append(table + table.T)
        masks.append(generator.random(words) < 0.8)
    masks[0][:] = [True, False]
    found = spanning_trees(tables, masks)
    for table, mask, edges in zip(tables, masks, found, strict=True):
        want = kruskal(table, np.flatnonzero(mask).tolist())
        assert {tuple(edge) for edge in edges.tolist()} == want


def test_zero_distances_are_edges() -> None:
    table = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    (edges,) = spanning_trees([table], [np.ones(3, dtype=bool)])
    assert edges.tolist() == [[0, 1], [1, 2]]


def test_a_tree_hung_from_its_root_has_its_heads_again() -> None:
    generator = np.random.default_rng(1)
    heads = random_heads(15, generator)
    edges = np.array(sorted(tree_edges(heads, np.ones(15, dtype=bool))))
    root = int(np.flatnonzero(heads < 0)[0])
    np.testing.assert_array_equal(hung(edges, root, 15), heads)


def test_rank_correlation_is_scipys() -> None:
    generator = np.random.default_rng(0)
    guess = generator.random((6, 12)).round(1)  # with ties
    truth = generator.integers(0, 5, (6, 12))
    want = [spearmanr(a, b).statistic for a, b in zip(guess, truth, strict=True)]
    np.testing.assert_allclose(rank_correlation(guess, truth), want, atol=1e-12)
    assert rank_correlation(np.ones(4), np.arange(4)) == 0


def test_noise_of_rounding_breaks_no_ties() -> None:
    truth = np.array([0.0, 1, 1, 2, 2, 2])
    noisy = truth + 1e-6 * np.random.default_rng(0).normal(size=6)
    assert spearmanr(noisy, truth).statistic < 0.99
    assert rank_correlation(noisy, truth) == pytest.approx(1, abs=1e-12)


def test_scores_of_the_trees_themselves_are_one() -> None:
    plant = dependency_plant(20, seed=3)
    trees = forest_of(plant.heads)
    scores = tree_scores(trees, trees.distances, trees.depths)
    assert [scores.value(name) for name in ("uuas", "root")] == [1, 1]
    assert scores.value("dspr") == pytest.approx(1, abs=1e-12)
    assert scores.value("nspr") == pytest.approx(1, abs=1e-12)


def test_rank_correlations_weigh_lengths_alike_and_leave_short_ones_out() -> None:
    heads = [np.array([-1, 0]), np.arange(6) - 1, np.arange(6) - 1, np.arange(8) - 1]
    trees = forest_of(heads)
    signs = [1, 1, -1, 1]  # reversed distances in one of the two sentences of six
    guess = [sign * far for sign, far in zip(signs, trees.distances, strict=True)]
    scores = tree_scores(trees, [abs(far) for far in trees.distances], trees.depths)
    mixed = [
        np.mean([spearmanr(a, b).statistic for a, b in zip(g, t, strict=True)])
        for g, t in zip(guess, trees.distances, strict=True)
    ]
    want = (np.mean([mixed[1], mixed[2]]) + mixed[3]) / 2
    backwards = [
        far.max() - far if s < 0 else far for s, far in zip(signs, trees.distances, strict=True)
    ]
    assert tree_scores(trees, backwards, trees.depths).value("dspr") == pytest.approx(want)
    assert scores.value("dspr") == pytest.approx(1)


def test_punctuation_is_neither_edge_nor_root() -> None:
    heads = [np.array([1, -1, 1, 1])]
    mask = [np.array([True, True, True, False])]
    trees = forest_of(heads, mask)
    depths = [np.array([1.0, 0.5, 1.0, 0.0])]  # least at the punctuation, which is passed over
    scores = tree_scores(trees, trees.distances, depths)
    assert (scores.edges.tolist(), scores.hits.tolist(), scores.root.tolist()) == ([2], [2], [1])


def test_the_interval_holds_the_value_and_is_a_point_without_spread() -> None:
    plant = dependency_plant(40, seed=1)
    trees = forest_of(plant.heads)
    x = plant.x.numpy()
    far = [((x[a:b, None] - x[None, a:b]) ** 2).sum(-1) for a, b in _runs(trees)]
    deep = [(x[a:b] ** 2).sum(-1) for a, b in _runs(trees)]
    scores = tree_scores(trees, far, deep)
    bootstrap = GroupBootstrap(trees.words.groups)
    for measure in ("uuas", "dspr", "root", "nspr"):
        low, high = scores.interval(measure, bootstrap)
        assert low < scores.value(measure) < high
    sure = tree_scores(trees, trees.distances, trees.depths)
    assert sure.interval("uuas", bootstrap) == (1, 1)


def test_the_identity_metric_of_the_plant_finds_little() -> None:
    plant = dependency_plant(200)
    trees = forest_of(plant.heads)
    x = plant.x.double().numpy()
    far = [((x[a:b, None] - x[None, a:b]) ** 2).sum(-1) for a, b in _runs(trees)]
    deep = [(x[a:b] ** 2).sum(-1) for a, b in _runs(trees)]
    scores = tree_scores(trees, far, deep)
    assert scores.value("uuas") == pytest.approx(0.20, abs=0.03)
    assert scores.value("dspr") == pytest.approx(0.33, abs=0.03)
    y = (plant.x @ plant.probe.T).double().numpy()
    truth = tree_scores(
        trees,
        [((y[a:b, None] - y[None, a:b]) ** 2).sum(-1) for a, b in _runs(trees)],
        [(y[a:b] ** 2).sum(-1) for a, b in _runs(trees)],
    )
    assert [truth.value(m) for m in ("uuas", "root")] == [1, 1]
    assert truth.value("dspr") == pytest.approx(1, abs=1e-12)


def _runs(trees):  # type: ignore[no-untyped-def]
    starts = trees.words.starts.tolist()
    return list(pairwise(starts))


def test_distances_and_depths_of_a_random_tree_agree() -> None:
    heads = random_heads(12, np.random.default_rng(5))
    root = int(np.flatnonzero(heads < 0)[0])
    np.testing.assert_array_equal(tree_distances(heads)[root], tree_depths(heads))
