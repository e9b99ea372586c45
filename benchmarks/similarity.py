"""CKA of all pairs of layers by one stacked product, against a loop over pairs; same numbers.

The loop is the usual code: for each pair, both Gram matrices and the unbiased HSIC of the three
combinations. The fairer peer keeps each layer's centred Gram matrix. Also seconds of `geometry`.
`python benchmarks/similarity.py [--quick]`
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from _common import median_seconds, save
from torch import Tensor

from layerscope.analyses.geometry import geometry
from layerscope.analyses.measures.cka import centred, hsic_unbiased, normalised
from layerscope.analyses.measures.pair_sums import linear_sums
from layerscope.analyses.similarity import similarity
from layerscope.store import Store

SIZES = ((12, 2000, 384), (12, 2000, 768), (12, 20_000, 64))
QUICK = ((6, 500, 64), (12, 400, 128))
GEOMETRY = (6, 20_000, 384)
QUICK_GEOMETRY = (2, 2000, 64)


@dataclass(frozen=True)
class Line:
    """One size: seconds each way, and the largest difference of any CKA."""

    layers: int
    rows: int
    width: int
    seconds: float
    with_intervals: float
    """With the sums of 20 left-out blocks, as `similarity` asks for them."""
    loop_seconds: float
    kept_grams_seconds: float
    speedup: float
    speedup_with_intervals: float
    speedup_kept_grams: float
    largest_difference: float


def planted(layers: int, rows: int, width: int) -> list[Tensor]:
    """A stream to which each layer adds something: neighbours are alike, float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, width, generator=generator)
    found = []
    for _ in range(layers):
        x = x + 0.5 * torch.tanh(x @ torch.randn(width, width, generator=generator) / width**0.5)
        found.append(x.clone())
    return found


def hsic(k: Tensor, m: Tensor) -> Tensor:
    """Unbiased HSIC of two Gram matrices without diagonals, as it is usually written."""
    n = len(k)
    both = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return ((k * m).sum() + both - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3))


def gram(x: Tensor) -> Tensor:
    found = x @ x.T
    found.fill_diagonal_(0)
    return found


def loop(x: Sequence[Tensor]) -> Tensor:
    """Every pair by itself."""
    found = torch.eye(len(x), dtype=torch.float64)
    for i in range(len(x)):
        for j in range(i):
            k, m = gram(centred(x[i])), gram(centred(x[j]))
            found[i, j] = found[j, i] = hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()
    return found


def kept_grams(x: Sequence[Tensor]) -> Tensor:
    """Every pair by itself, from Gram matrices that are made once."""
    grams = [gram(centred(part)) for part in x]
    own = torch.stack([hsic(k, k) for k in grams])
    found = torch.eye(len(x), dtype=torch.float64)
    for i in range(len(x)):
        for j in range(i):
            found[i, j] = found[j, i] = hsic(grams[i], grams[j]) / (own[i] * own[j]).sqrt()
    return found


def together(x: Sequence[Tensor], blocks: int) -> Tensor:
    n = len(x[0])
    bounds = [n * b // blocks for b in range(blocks + 1)]
    return normalised(hsic_unbiased(linear_sums([centred(part) for part in x], bounds)))[0]


def measure(layers: int, rows: int, width: int, repeats: int) -> Line:
    x = planted(layers, rows, width)
    ours = median_seconds(lambda: together(x, 1), repeats)
    intervals = median_seconds(lambda: together(x, 20), repeats)
    # Gram matrices of all rows do not fit where rows are many: the loop then takes 2,000 of them.
    some = [part[:2000] for part in x]
    scale = (rows / len(some[0])) ** 2
    theirs = scale * median_seconds(lambda: loop(some), 1, warmup=0)
    kept = scale * median_seconds(lambda: kept_grams(some), 1, warmup=0)
    apart = float((together(some, 20) - loop(some)).abs().max())
    return Line(
        layers,
        rows,
        width,
        round(ours, 3),
        round(intervals, 3),
        round(theirs, 3),
        round(kept, 3),
        round(theirs / ours, 1),
        round(theirs / intervals, 1),
        round(kept / ours, 1),
        apart,
    )


def on_disk(folder: Path, layers: int, rows: int, width: int) -> Store:
    sites = {f"blocks.{i}.resid_post": x for i, x in enumerate(planted(layers, rows, width))}
    widths = dict.fromkeys(sites, width)
    store = Store.create(folder, {"rows": "tokens"}, sites=widths, dtype=torch.float32, about={})
    text = [row // 20 for row in range(rows)]
    frame = pd.DataFrame({"text": text, "group": text, "position": 0, "token_id": 0})
    store.write(0, sites, frame)
    store.finish(1)
    return store


def main() -> None:
    quick = "--quick" in sys.argv
    lines = []
    for size in QUICK if quick else SIZES:
        line = measure(*size, repeats=1 if quick else 3)
        lines.append(asdict(line))
        print(
            f"{line.layers} layers x {line.rows:,} rows x {line.width}: {line.seconds:.2f} s, with "
            f"intervals {line.with_intervals:.2f} s; loop over pairs {line.loop_seconds:.2f} s "
            f"({line.speedup:.1f} x, {line.speedup_with_intervals:.1f} x), Gram matrices kept "
            f"{line.kept_grams_seconds:.2f} s ({line.speedup_kept_grams:.1f} x); apart by "
            f"{line.largest_difference:.0e}"
        )
    with tempfile.TemporaryDirectory() as folder:
        store = on_disk(Path(folder) / "store", *(QUICK_GEOMETRY if quick else GEOMETRY))
        shape = median_seconds(lambda: geometry(store, progress=False), 1, warmup=0)
        maps = median_seconds(lambda: similarity(store, progress=False), 1, warmup=0)
    print(f"geometry of {len(store.sites)} sites x {len(store):,} rows: {shape:.2f} s")
    print(f"similarity of them, the default measures on 2,000 rows: {maps:.2f} s")
    figures = {"cka": lines, "geometry_seconds": round(shape, 2), "maps_seconds": round(maps, 2)}
    save("similarity", figures)


if __name__ == "__main__":
    main()
