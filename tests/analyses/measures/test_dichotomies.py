"""Parallelism of known points, all divisions, and the splits of cross-condition generalisation."""

from __future__ import annotations

from itertools import permutations, product
from math import comb

import numpy as np
import pytest
import torch

from layerscope.analyses.measures.dichotomies import (
    balanced,
    ccgp_sets,
    named_dichotomies,
    parallelism,
)
from layerscope.analyses.measures.kernels import gram
from layerscope.planted.condition_points import cube, simplex

SQUARE = named_dichotomies(["a", "b"], list(product("xy", "uv")))


def by_definition(points: torch.Tensor, positive: list[int], negative: list[int]) -> float:
    """The largest mean cosine over every pairing, by numpy."""
    best = -2.0
    x = points.double().numpy()
    for order in permutations(negative):
        v = x[positive] - x[list(order)]
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        cosines = v @ v.T
        best = max(best, float(cosines[np.triu_indices(len(v), 1)].mean()))
    return best


@pytest.mark.parametrize(
    ("points", "number", "expected"),
    [(cube(2), 0, 1.0), (cube(2), 1, 1.0), (cube(2), 2, -1.0)]
    + [(simplex(4), number, 0.0) for number in range(3)],
)
def test_parallelism_of_square_exclusive_or_and_simplex(
    points: torch.Tensor, number: int, expected: float
) -> None:
    one = SQUARE[number]
    found = parallelism(gram(points), one.positive, one.negative)
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_shift_of_all_conditions_changes_no_parallelism() -> None:
    points = cube(2) + torch.tensor([7.0, -3.0], dtype=torch.float64)
    one = SQUARE[0]
    assert parallelism(gram(points), one.positive, one.negative) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("side", [2, 3, 4, 5, 6])
def test_parallelism_is_the_best_pairing(side: int) -> None:
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(2 * side, 6, generator=generator, dtype=torch.float64)
        positive, negative = list(range(side)), list(range(side, 2 * side))
        found = parallelism(gram(points), positive, negative)
        assert found == pytest.approx(by_definition(points, positive, negative), abs=1e-9)


def test_a_long_dichotomy_of_one_direction_is_parallel() -> None:
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(32, 40, generator=generator, dtype=torch.float64)
    shift = torch.randn(40, generator=generator, dtype=torch.float64)
    points = torch.cat([contexts + shift, contexts])
    found = parallelism(gram(points), range(32), range(32, 64))
    assert found == pytest.approx(1, abs=1e-9)


def test_parallelism_needs_two_vectors_with_a_length() -> None:
    assert np.isnan(parallelism(gram(simplex(2)), [0], [1]))
    same = torch.zeros(4, 4, dtype=torch.float64)
    assert np.isnan(parallelism(same, [0, 1], [2, 3]))


def test_all_divisions_are_listed_once() -> None:
    for conditions in (4, 6, 8):
        found = balanced(conditions)
        assert len(found) == comb(conditions, conditions // 2) // 2
        assert (found.sum(1) == 0).all()
        both = {tuple(row) for row in found} | {tuple(-row) for row in found}
        assert len(both) == 2 * len(found)
    assert len(balanced(5)) == comb(5, 2)


def test_of_too_many_divisions_some_are_drawn() -> None:
    found = balanced(20, most=50, seed=3)
    assert found.shape == (50, 20)
    assert (found.sum(1) == 0).all()
    assert len({tuple(row * row[0]) for row in found}) == 50
    assert (found == balanced(20, most=50, seed=3)).all()
    with pytest.raises(ValueError, match="needs two conditions, there are 1"):
        balanced(1)


def test_names_of_the_dichotomies_of_a_crossing() -> None:
    assert [one.name for one in SQUARE] == ["a: x / y", "b: u / v", "a xor b"]
    assert [one.paired for one in SQUARE] == [True, True, False]
    crossed = [("x", "u"), ("x", "v"), ("x", "w"), ("y", "u"), ("y", "v")]
    found = named_dichotomies(["a", "b"], crossed)
    assert [(one.name, one.positive, one.negative) for one in found] == [
        ("a: x / y", (0, 1), (3, 4)),  # w occurs on one side only
        ("b: u / v", (0, 3), (1, 4)),
    ]


def test_splits_of_the_two_rules() -> None:
    one = SQUARE[0]
    assert ccgp_sets(one, "paired", 4, most=10).tolist() == [[1, 0, -1, 0], [0, 1, 0, -1]]
    every = ccgp_sets(one, "all", 4, most=10).tolist()
    assert sorted(every) == sorted([[0, 1, 0, -1], [0, 1, -1, 0], [1, 0, 0, -1], [1, 0, -1, 0]])
    assert len(ccgp_sets(SQUARE[2], "paired", 4, most=10)) == 0
    assert len(ccgp_sets(one, "all", 4, most=3)) == 3
    wide = named_dichotomies(["a", "b"], list(product("xy", "uvw")))[0]
    for rule, sides in (("all", {2}), ("paired", {1, 2})):  # two of three, or one against two
        sets = ccgp_sets(wide, rule, 6, most=100)  # type: ignore[arg-type]
        assert {int((one == side).sum()) for one in sets for side in (1, -1)} == sides
    assert len(ccgp_sets(wide, "all", 6, most=100)) == 9
    assert len(ccgp_sets(wide, "paired", 6, most=100)) == 6


def test_other_divisions_are_others() -> None:
    one = SQUARE[0]
    sides = {frozenset([frozenset(d.positive), frozenset(d.negative)]) for d in one.others(40)}
    own = frozenset([frozenset(one.positive), frozenset(one.negative)])
    assert len(sides) == 2  # of three divisions of four conditions
    assert own not in sides
