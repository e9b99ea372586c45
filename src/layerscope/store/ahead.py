"""Work done a little ahead of whoever uses the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

WORKERS = 2
"""Copies release the interpreter, so one can wait for memory or disk while another runs."""


def ahead(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results of `calls` in their order, the next two being computed meanwhile.

    No more than WORKERS calls run or wait at a time, so every WORKERS-th may use the same buffer.
    An exception of a call is raised in its turn; leaving the loop early starts no further calls.
    """
    remaining = iter(calls)
    with ThreadPoolExecutor(WORKERS) as executor:
        waiting: deque[Future[T]] = deque(map(executor.submit, islice(remaining, WORKERS)))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(map(executor.submit, islice(remaining, 1)))
            yield result
