"""Sites side by side, each on its share of the processor's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MEMORY = 2e9
"""Bytes that sites in work at the same time may take together."""

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], *, item_bytes: float) -> Iterator[R]:
    """``work(item)`` of each, in order, several at once where there is no CUDA.

    One thread on each of two sites beats two threads on one: they never wait for each other, which
    matters most where other programs want the processor too.

    Args:
        work: Called from other threads; torch is limited to a share of the threads in there.
        items: What to work on.
        item_bytes: Memory that one takes.
    """
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    workers = int(max(1, min(threads, len(items), MEMORY // max(1.0, item_bytes))))
    if workers == 1 or torch.cuda.is_available():
        yield from map(work, items)
        return
    share = max(1, threads // workers)
    try:
        # scikit-learn's products go through BLAS, whose threads torch does not count.
        with (
            threadpool_limits(share, "blas"),
            ThreadPoolExecutor(workers, "probe", torch.set_num_threads, (share,)) as pool,
        ):
            yield from pool.map(work, items)
    finally:
        # The workers' calls set what future threads start with, too.
        torch.set_num_threads(threads)
