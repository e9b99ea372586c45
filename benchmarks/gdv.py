"""GDV with its permutation null: one distance matrix and products, against the plain ways.

The plain loop permutes the labels and averages the blocks of the same matrix again, draw by draw; the
route through scikit-learn computes `pairwise_distances` and loops in the same way. Both are timed on
a few draws, and their time for all of them is that times the number of draws.
`python benchmarks/gdv.py [--quick]`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from _common import median_seconds, save

from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import (
    BLOCK,
    class_sums,
    gdv_from_distances,
    gdv_of_sums,
    half_z,
    without_blocks,
)

DRAWS = 200
CLASSES = 12
LOOPED = 5
SIZES = ((1_000, 128), (2_000, 384), (4_000, 384))
QUICK = ((300, 32),)


@dataclass(frozen=True)
class Line:
    """One size; seconds."""

    rows: int
    width: int
    ours: float
    """Scaling, distances, value and null."""
    jackknife: float
    """20 blocks left out, on the same distances."""
    loop: float
    sklearn: float
    speedup_loop: float
    speedup_sklearn: float
    difference: float
    """Largest difference of a null draw between the two."""


def plain(d: Any, codes: Any, width: int) -> float:
    """GDV from blocks of the distance matrix."""
    classes = [np.flatnonzero(codes == one) for one in range(CLASSES)]
    intra = [d[np.ix_(a, a)].sum() / (len(a) * (len(a) - 1)) for a in classes]
    inter = [d[np.ix_(a, b)].mean() for number, a in enumerate(classes) for b in classes[:number]]
    return float((np.mean(intra) - np.mean(inter)) / np.sqrt(width))


def many(d: torch.Tensor, codes: torch.Tensor, width: int) -> torch.Tensor:
    """GDV of each labelling ``[draws, rows]``."""
    parts = zip(class_sums(d, codes), codes.split(BLOCK), strict=True)
    return torch.cat([gdv_of_sums(sums, part, width).value for sums, part in parts])


def without(d: torch.Tensor, codes: torch.Tensor, blocks: torch.Tensor, width: int) -> list[float]:
    """GDV without each block."""
    left = [part for part in without_blocks(d, codes, blocks) if part is not None]
    return [gdv_of_sums(*part, width).value.item() for part in left]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(rows: int, width: int) -> Line:
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(rows) % CLASSES
    x = torch.randn(rows, width, generator=generator)
    x += 0.3 * torch.randn(CLASSES, width, generator=generator)[codes]
    null = torch.stack([codes[torch.randperm(rows, generator=generator)] for _ in range(DRAWS)])

    def ours() -> torch.Tensor:
        d = distances(half_z(x))
        gdv_from_distances(d, codes, width)
        return many(d.float(), null, width)

    def by_sklearn() -> None:
        from sklearn.metrics import pairwise_distances

        pairwise_distances(half_z(x).numpy())

    d = distances(half_z(x))
    blocks = torch.arange(rows) * 20 // rows
    matrix, labels = d.numpy(), null.numpy()
    found = [plain(matrix, draw, width) for draw in labels[:LOOPED]]
    per_draw = seconds(lambda: [plain(matrix, draw, width) for draw in labels[:LOOPED]]) / LOOPED
    whole, pairs, by_peer = (
        median_seconds(ours, repeats=3),
        seconds(lambda: distances(half_z(x))),
        median_seconds(by_sklearn, repeats=3),
    )
    loop, sklearn = pairs + (DRAWS + 1) * per_draw, by_peer + (DRAWS + 1) * per_draw
    return Line(
        rows=rows,
        width=width,
        ours=whole,
        jackknife=median_seconds(lambda: without(d, codes, blocks, width), repeats=3),
        loop=loop,
        sklearn=sklearn,
        speedup_loop=loop / whole,
        speedup_sklearn=sklearn / whole,
        difference=float(np.abs(ours()[:LOOPED].numpy() - found).max()),
    )


def main() -> None:
    quick = "--quick" in sys.argv
    lines = [measure(*size) for size in (QUICK if quick else SIZES)]
    for line in lines:
        print(
            f"{line.rows:,} x {line.width}, {DRAWS} permutations: {line.ours:.2f} s, plain loop "
            f"{line.loop:.2f} s ({line.speedup_loop:.1f}x), scikit-learn and loop {line.sklearn:.2f} s "
            f"({line.speedup_sklearn:.1f}x); jackknife of 20 blocks: {line.jackknife:.2f} s"
        )
    if not quick:
        save("gdv", {"draws": DRAWS, "classes": CLASSES, "lines": [asdict(line) for line in lines]})


if __name__ == "__main__":
    main()
