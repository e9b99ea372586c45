"""The order of shuffled reading: a permutation, mixed over everything, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layerscope.store import mixing

ROW = 1024


def whole(count: int, size: int = 16, seed: int = 0) -> np.ndarray[Any, Any]:
    parts = list(mixing.cut(mixing.shuffled(count, ROW, seed), size))
    assert {len(part) for part in parts[:-1]} <= {size}
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000, 4097])
@pytest.mark.parametrize("pool", [2**30, 2**17])
@pytest.mark.parametrize("size", [1, 7, 300])
def test_every_row_comes_once(
    count: int, pool: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixing, "POOL_BYTES", pool)
    assert sorted(whole(count, size)) == list(range(count))


def test_what_fits_one_pool_is_a_uniform_permutation() -> None:
    """Over many seeds every row is as likely at every place: chi-square of place against row."""
    count, seeds = 8, 4000
    places = np.array([whole(count, seed=seed) for seed in range(seeds)])
    table = np.array([np.bincount(column, minlength=count) for column in places.T])
    chi = ((table - seeds / count) ** 2 / (seeds / count)).sum()
    assert chi < 85.4, "the 0.1 % point of chi-square with 49 degrees of freedom"


def test_neighbours_do_not_stay_together_in_one_pool() -> None:
    assert (np.diff(whole(10_000)) == 1).mean() < 0.001


def test_large_stores_draw_each_batch_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "POOL_BYTES", 512 * mixing.RUN_BYTES)
    rows, size = 200_000, 1000
    pools = list(mixing.shuffled(rows, ROW, 0))
    assert len(pools) == 7
    assert all(len(pool) * ROW < 1.05 * mixing.POOL_BYTES for pool in pools)
    for batch in list(mixing.cut(pools, size))[:-1]:
        tenths = np.bincount(batch * 10 // rows, minlength=10) / size
        assert tenths.min() > 0.04
        assert len(np.unique(batch // 64)) > 200, "rows of hundreds of distant runs"


def test_a_pool_holds_the_rows_of_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 1 kB that lie beside 3 kB of other sites: a quarter of the rows, in runs as before."""
    monkeypatch.setattr(mixing, "POOL_BYTES", 64 * mixing.RUN_BYTES)
    alone = list(mixing.shuffled(16_384, ROW, 0))
    together = list(mixing.shuffled(16_384, ROW, 0, pooled_bytes=4 * ROW))
    assert (len(alone), len(together)) == (4, 16)
    assert sorted(np.concatenate(together)) == list(range(16_384))
    for pool in together:
        assert len(pool) == 1024
        assert len(np.unique(pool // 64)) == 16, "whole runs of 64 kB of one site"


def test_cutting_keeps_the_order() -> None:
    pieces = [np.arange(0, 5), np.arange(5, 6), np.arange(6, 17)]
    assert [len(piece) for piece in mixing.cut(pieces, 4)] == [4, 4, 4, 4, 1]
    assert np.concatenate(list(mixing.cut(pieces, 4))).tolist() == list(range(17))
