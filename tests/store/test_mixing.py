"""The order of shuffled reading: a permutation, mixed over everything, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.store import mixing


def whole(count: int, row_bytes: int = 1024, seed: int = 0) -> np.ndarray:
    pools = list(mixing.shuffled(count, row_bytes, seed))
    return np.concatenate(pools) if pools else np.empty(0, np.int64)


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000, 4097])
@pytest.mark.parametrize("pool", [2**30, 2**17])
def test_every_row_comes_once(count: int, pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "POOL_BYTES", pool)
    assert sorted(whole(count)) == list(range(count))


def test_what_fits_one_pool_is_a_uniform_permutation() -> None:
    """Over many seeds every row is as likely at every place: chi-square of place against row."""
    count, seeds = 8, 4000
    places = np.array([whole(count, seed=seed) for seed in range(seeds)])
    table = np.array([np.bincount(column, minlength=count) for column in places.T])
    chi = ((table - seeds / count) ** 2 / (seeds / count)).sum()
    assert chi < 85.4, "the 0.1 % point of chi-square with 49 degrees of freedom"


def test_neighbours_do_not_stay_together_in_one_pool() -> None:
    order = whole(10_000)
    assert (np.diff(order) == 1).mean() < 0.001


def test_large_stores_draw_each_batch_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "POOL_BYTES", 512 * mixing.RUN_BYTES)
    rows, row_bytes, size = 200_000, 1024, 1024
    pools = list(mixing.shuffled(rows, row_bytes, 0))
    assert {len(pool) * row_bytes // mixing.POOL_BYTES for pool in pools} == {0}
    assert min(map(len, pools)) > 0.9 * max(map(len, pools)), "no thin pool at the end"
    for batch in list(mixing.cut(iter(pools), size))[:-1]:
        tenths = np.bincount(batch * 10 // rows, minlength=10) / size
        assert tenths.min() > 0.04
        assert len(np.unique(batch // 64)) > 200, "rows of hundreds of distant runs"


def test_cutting_keeps_the_order_and_only_the_last_is_short() -> None:
    pieces = [np.arange(0, 5), np.arange(5, 6), np.arange(6, 17)]
    cut = list(mixing.cut(iter(pieces), 4))
    assert [len(piece) for piece in cut] == [4, 4, 4, 4, 1]
    assert np.concatenate(cut).tolist() == list(range(17))
