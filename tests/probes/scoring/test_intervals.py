"""Group bootstrap against the standard error that theory gives."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.probes.scoring.intervals import GroupBootstrap


def test_rows_as_groups_give_the_binomial_interval() -> None:
    misses = (np.arange(1000) % 5 == 0).astype(float)  # accuracy .8
    low, high = GroupBootstrap(np.arange(1000), draws=4000).ratio(misses, np.ones(1000))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.003)


def test_rows_that_go_together_widen_the_interval() -> None:
    """Twenty equal rows a group are worth one."""
    misses = np.repeat((np.arange(50) % 5 == 0).astype(float), 20)
    groups = np.repeat(np.arange(50), 20)
    low, high = GroupBootstrap(groups, draws=4000).ratio(misses, np.ones(1000))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 50)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.02)


def test_draws_equal_a_loop_over_groups() -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 7, 60)
    loss, scale = generator.random(60), generator.random(60) + 1
    bootstrap = GroupBootstrap(groups, draws=200, seed=1)
    values = []
    for times in bootstrap.times:
        rows = np.concatenate(
            [np.tile(np.flatnonzero(groups == g), k) for g, k in enumerate(times)]
        )
        values.append(1 - loss[rows].sum() / scale[rows].sum())
    expected = np.percentile(values, [2.5, 97.5])
    np.testing.assert_allclose(bootstrap.ratio(loss, scale), expected)


def test_same_seed_same_interval_and_no_global_randomness() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = (
        GroupBootstrap(np.arange(40), seed=s).ratio(np.arange(40.0), np.full(40, 30.0))
        for s in (0, 0, 1)
    )
    assert first == again != other
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
