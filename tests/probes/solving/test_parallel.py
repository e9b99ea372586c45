"""Several sites at once: in order, errors through, threads as they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from layerscope.probes.solving.parallel import side_by_side


@pytest.fixture(params=[1, 2, 4])
def threads(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_threads_are_shared(threads) -> None:
    def work(item: int) -> tuple[int, int]:
        return item, torch.get_num_threads()

    found = list(side_by_side(work, range(7), item_bytes=1.0))
    assert [item for item, _ in found] == list(range(7))
    assert {share for _, share in found} == {1}
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as pool:  # threads that others start later
        assert pool.submit(torch.get_num_threads).result() == threads


def test_blas_shares_its_threads_too(threads) -> None:
    """Two solvers of scikit-learn with two spinning BLAS threads each took 50 times as long."""

    def threads_of_blas(_: int = 0) -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        shares = list(side_by_side(threads_of_blas, range(4), item_bytes=1.0))
        assert threads_of_blas() == {2}
    assert all(share == ({2} if threads == 1 else {1}) for share in shares)


def test_large_items_get_all_threads_one_after_the_other(threads) -> None:
    found = side_by_side(lambda _: torch.get_num_threads(), range(3), item_bytes=1.5e9)
    assert set(found) == {threads}


def test_an_error_comes_through(threads) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("item 2 is bad")
        return item

    with pytest.raises(ValueError, match="item 2 is bad"):
        list(side_by_side(work, range(50), item_bytes=1.0))
    assert torch.get_num_threads() == threads
