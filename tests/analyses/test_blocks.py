"""Leave-out intervals: groups stay whole, and the interval covers what it should."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.analyses.material.blocks import Blocks, jackknife, standard_error


def test_groups_stay_whole_and_blocks_are_even() -> None:
    groups = np.repeat(np.arange(100), 7)
    blocks = Blocks.of(groups, most=10)
    assert blocks.count == 10
    for group in range(100):
        assert len(np.unique(blocks.number[groups == group])) == 1
    assert np.bincount(blocks.number).tolist() == [70] * 10
    assert blocks.bounds == tuple(range(0, 701, 70))


def test_few_or_giant_groups_make_fewer_blocks_without_gaps() -> None:
    assert Blocks.of(np.array([0, 0, 1]), most=20).count == 2
    giant = np.array([0] * 90 + list(range(1, 11)))
    number = Blocks.of(giant, most=10).number
    assert set(number.tolist()) == set(range(int(number.max()) + 1))


def test_sums_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    blocks = Blocks.of(generator.integers(0, 9, 50), most=4)
    values = generator.normal(size=(50, 3))
    expected = [values[blocks.number == b].sum(0) for b in range(blocks.count)]
    np.testing.assert_allclose(blocks.sums(values), expected)


def test_of_a_mean_it_is_the_textbook_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=40)
    left = [np.delete(x, i).mean() for i in range(40)]
    assert standard_error(left) == pytest.approx(x.std(ddof=1) / np.sqrt(40))
    low, high = jackknife(x.mean(), left)
    from scipy.stats import t

    assert (low, high) == pytest.approx(t.interval(0.95, 39, x.mean(), standard_error(left)))


def test_one_block_has_no_interval() -> None:
    low, high = jackknife(1.0, [1.0])
    assert np.isnan(low)
    assert np.isnan(high)
