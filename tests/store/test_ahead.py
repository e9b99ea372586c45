"""Work ahead keeps the order, raises in turn, and stops when nobody listens."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from layerscope.store.ahead import ahead


def test_results_come_in_order_whatever_the_durations() -> None:
    def slow(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i

    assert list(ahead(partial(slow, i) for i in range(20))) == list(range(20))
    assert list(ahead([])) == []


def test_the_next_call_runs_while_the_last_result_is_used() -> None:
    started = [threading.Event() for _ in range(4)]
    results = ahead(started[i].set for i in range(4))
    next(results)
    assert started[2].wait(5)
    results.close()
    assert not started[3].is_set()


def test_an_exception_comes_in_its_turn() -> None:
    def work(i: int) -> int:
        if i == 3:
            raise ValueError("the third")
        return i

    results = ahead(partial(work, i) for i in range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
