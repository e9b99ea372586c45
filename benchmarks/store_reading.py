"""Reading a stored site against numpy.memmap of the same numbers, and writing against plain bytes.

    python benchmarks/store_reading.py [--quick]

Everything is read from the page cache, which is warmed first: this measures our code, not the
disk. Each figure is the median over rounds in which all contestants take turns, so that a busy
machine slows all of them. Goals: slices at least 0.8 of numpy.memmap, shuffled batches of 4,096
rows at least 0.3 of its slices.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import save

from layerscope.store import SiteView, Store

WIDTH, BATCH, SITE = 384, 4096, "blocks.0.resid_post"


def build(folder: Path, rows: int, shards: int) -> tuple[Store, np.ndarray[Any, Any], float, float]:
    """A store and a raw file of the same numbers, and the seconds it took to write each."""
    store = Store.create(folder / "s", {}, sites={SITE: WIDTH}, dtype=torch.float32, about={})
    whole = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for index, part in enumerate(whole.chunk(shards)):
        frame = pd.DataFrame({"text": [index] * len(part), "position": range(len(part))})
        store.write(index, {SITE: part}, frame)
    store.finish(shards)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    with (folder / "raw").open("wb", buffering=0) as file:
        for part in whole.numpy().reshape(shards, -1):
            file.write(part.data)
            os.fsync(file.fileno())
    raw = time.perf_counter() - start
    mapped = np.memmap(folder / "raw", np.float32, "r", shape=(rows, WIDTH))
    return Store.open(folder / "s"), mapped, ours, raw


def contestants(view: SiteView, mapped: np.ndarray[Any, Any]) -> dict[str, Callable[[], Any]]:
    starts = range(0, len(mapped), BATCH)
    order = np.random.default_rng(0).permutation(len(mapped))

    def each(read: Callable[[int], Any]) -> Callable[[], None]:
        def run() -> None:
            for first in starts:
                read(first)

        return run

    def shuffled() -> None:
        for _ in view.batches(BATCH, shuffle=True):
            pass

    return {
        # An array of one's own, which is what a slice of a store is.
        "memmap_copy": each(lambda i: np.array(mapped[i : i + BATCH])),
        "store_copy": each(lambda i: view[i : i + BATCH]),
        # Only looked at: the map needs no copy, a slice of a store is one.
        "memmap_sum": each(lambda i: np.asarray(mapped[i : i + BATCH]).sum()),
        "store_sum": each(lambda i: view[i : i + BATCH].numpy().sum()),
        "memmap_shuffled": each(lambda i: mapped[order[i : i + BATCH]]),
        "store_shuffled": shuffled,
    }


def measure(
    runs: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median wall and processor seconds of each, the contestants taking turns."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round only warms the cache
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    return tuple({n: statistics.median(x) for n, x in kind.items()} for kind in (wall, cpu))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 MB instead of 600 MB")
    parser.add_argument("--shards", type=int, default=10)
    quick, shards = (arguments := parser.parse_args()).quick, arguments.shards
    rows = 40_000 if quick else 400_000
    torch.set_num_threads(1)  # as many as numpy uses to copy
    folder = Path(tempfile.mkdtemp())
    try:
        store, mapped, ours, raw = build(folder, rows, shards)
        opened = time.perf_counter()
        Store.open(store.path)
        opened = time.perf_counter() - opened
        seconds, used = measure(contestants(store[SITE], mapped), rounds=3 if quick else 7)
        start = time.perf_counter()
        store.verify()
        verified = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    size = rows * WIDTH * 4
    speed = {name: round(size / time_ / 1e9, 2) for name, time_ in seconds.items()}
    busy = {name: round(size / time_ / 1e9, 2) for name, time_ in used.items()}
    pairs = {
        "slices_copied": ("memmap_copy", "store_copy"),
        "slices_summed": ("memmap_sum", "store_sum"),
        "shuffled_to_memmap_copied_slices": ("memmap_copy", "store_shuffled"),
        "shuffled_to_memmap_shuffled": ("memmap_shuffled", "store_shuffled"),
    }
    ratios = {name: round(seconds[a] / seconds[b], 2) for name, (a, b) in pairs.items()}
    print(f"{'':34} {'wall':>6} {'processor':>10}  GB/s")
    for name, value in speed.items():
        print(f"{name:34} {value:6.2f} {busy[name]:10.2f}")
    for name, ratio in ratios.items():
        print(f"{name:34} {ratio:6.2f}  of the wall speed")
    writing = {
        "store_gb_s": round(size / ours / 1e9, 2),
        "raw_gb_s": round(size / raw / 1e9, 2),
    }
    print(f"written at {writing['store_gb_s']} GB/s, plain bytes at {writing['raw_gb_s']} (synced)")
    print(f"opened in {opened * 1e3:.1f} ms, verified at {size / verified / 1e9:.2f} GB/s")
    save(
        "store_reading",
        {
            "quick": quick,
            "megabytes": size / 1e6,
            "shards": shards,
            "batch": BATCH,
            "cache": "warm",
            "gb_per_second": speed,
            "gb_per_processor_second": busy,
            "load_average": os.getloadavg()[0],
            "ratios": ratios,
            "writing": writing,
            "open_ms": round(opened * 1e3, 1),
            "verify_gb_s": round(size / verified / 1e9, 2),
        },
    )


if __name__ == "__main__":
    main()
