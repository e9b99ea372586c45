"""What reading shuffled batches from a store adds to a training step of a sparse autoencoder.

    python benchmarks/sae_rows.py [--quick]

The step is the least that a TopK step can be: the encoder's product and the top k, at width 384 to
6,144, k 32, batches of 4,096. It is timed on rows that lie in memory and on rows that a store reads
meanwhile, in blocks that take turns, so that a busy machine slows both. Stores of float32 and of
bfloat16, one site and two; shuffled in one pool (a store that fits into memory), and in pools of a
twentieth of the store, made of runs, as a store that does not fit is read. Files are in the page
cache: this measures our code, not a disk. Goal: less than 10 % of the step.
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

import pandas as pd
import torch
from _common import save
from torch import Tensor

from layerscope.analyses.sae.rows.stored import StoredRows
from layerscope.store import Store, mixing

WIDTH, LATENTS, K, BATCH = 384, 6144, 32, 4096
SITES = ("blocks.0.resid_post", "blocks.1.resid_post")
SHARDS, STEPS, UNMEASURED = 10, 5, 2
POOLS = 20


def build(folder: Path, rows: int, dtype: torch.dtype) -> Store:
    store = Store.create(
        folder,
        {},
        sites=dict.fromkeys(SITES, WIDTH),
        dtype=dtype,
        about={"model": "", "corpus": ""},
    )
    random = torch.Generator().manual_seed(0)
    for index in range(SHARDS):
        count = rows // SHARDS
        part = torch.randn(count, WIDTH, generator=random).to(dtype)
        frame = pd.DataFrame({"text": [index] * count, "position": range(count)})
        store.write(index, dict.fromkeys(SITES, part), frame)
    store.finish(SHARDS)
    return Store.open(folder)


def step(x: Tensor, encoder: Tensor) -> None:
    (x @ encoder).topk(K, dim=1, sorted=False)


def block(rows: Callable[[], Tensor], encoder: Tensor) -> tuple[float, float]:
    """Wall and processor seconds of one step on these rows, the mean over a block.

    The first steps of it do not count.
    """
    for _ in range(UNMEASURED):
        step(rows(), encoder)
    start, used = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        step(rows(), encoder)
    return (time.perf_counter() - start) / STEPS, (time.process_time() - used) / STEPS


def measure(store: Store, sites: tuple[str, ...], pool: int, rounds: int) -> dict[str, float]:
    encoder = torch.randn(WIDTH, LATENTS)
    held = torch.randn(BATCH, WIDTH)
    mixing.POOL_BYTES = pool
    alone, reading = [], []
    with StoredRows(store, sites) as source:
        for _ in range(rounds):
            alone.append(block(lambda: held, encoder))
            reading.append(block(lambda: source.next(BATCH)[0], encoder))
            source.close()  # nothing is read while the step is timed by itself
        start, used = time.perf_counter(), time.process_time()
        for _ in range(4 * STEPS):
            source.next(BATCH)
        by_itself = (time.perf_counter() - start) / (4 * STEPS)
        busy = (time.process_time() - used) / (4 * STEPS)
    (alone_wall, alone_used), (wall, both_used) = (
        [list(kind) for kind in zip(*times, strict=True)] for times in (alone, reading)
    )
    step_used = statistics.median(alone_used)
    return {
        "step_ms": round(statistics.median(alone_wall) * 1e3, 1),
        "added_share": _added(alone_wall, wall),
        "step_processor_ms": round(step_used * 1e3, 1),
        "added_processor_share": _added(alone_used, both_used),
        "reading_by_itself_ms": round(by_itself * 1e3, 1),
        "reading_by_itself_processor_ms": round(busy * 1e3, 1),
        "processor_share": round(busy / step_used, 3),
    }


def _added(alone: list[float], reading: list[float]) -> float:
    """Median of the differences of neighbouring blocks, as a share of the median step."""
    added = statistics.median(b - a for a, b in zip(alone, reading, strict=True))
    return round(added / statistics.median(alone), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 MB a site instead of 300")
    quick = parser.parse_args().quick
    rows = 20_000 if quick else 200_000
    found: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        folder = Path(tempfile.mkdtemp())
        try:
            store = build(folder / "s", rows, dtype)
            for sites in (SITES[:1], SITES):
                size = rows * WIDTH * dtype.itemsize * len(sites)
                for name, pool in (("one pool", size), (f"{POOLS} pools", size // POOLS)):
                    kind = f"{str(dtype).removeprefix('torch.')}, {len(sites)} sites, {name}"
                    found[kind] = measure(store, sites, pool, rounds=3 if quick else 9)
                    print(f"{kind:32} {found[kind]}")
        finally:
            shutil.rmtree(folder)
    worst = max(figures["added_share"] for figures in found.values())
    busiest = max(figures["processor_share"] for figures in found.values())
    print(
        f"at most {worst:.1%} of the time of a step of the encoder's product and the top k alone "
        f"(goal 10 %); by itself, reading takes {busiest:.1%} of its processor time"
    )
    save(
        "sae_rows",
        {
            "quick": quick,
            "rows": rows,
            "shape": {"width": WIDTH, "latents": LATENTS, "k": K, "batch": BATCH},
            "cache": "warm",
            "load_average": os.getloadavg()[0],
            "worst_added_share": worst,
            "worst_processor_share": busiest,
            "cases": found,
        },
    )


if __name__ == "__main__":
    main()
