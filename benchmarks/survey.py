"""The default battery on a store of 20,000 rows x 6 sites x 384, in parts, and its peak memory.

    python benchmarks/survey.py [--quick]

The floor is one pass over the same store that sums outer products, which every closed form needs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import save

from layerscope.store import Store

WORDS_A_SENTENCE = 20
CLASSES, TYPES = 12, 3000


def planted_store(folder: Path, rows: int, sites: int, width: int) -> Store:
    """Sentences of words with classes; each site mixes class, word and noise, as layers do."""
    draw = np.random.default_rng(0)
    kind_of = draw.integers(CLASSES, size=TYPES)
    word = np.minimum(draw.zipf(1.3, size=rows), TYPES) - 1
    kind = kind_of[word]
    names = ["embed", *(f"blocks.{i}.resid_post" for i in range(sites - 1))]
    store = Store.create(
        folder / "store",
        {"rows": {"rule": "words"}},
        sites=dict.fromkeys(names, width),
        dtype=torch.float32,
        about={"model": "planted", "corpus": "planted"},
    )
    classes = draw.normal(size=(CLASSES, width))
    words = draw.normal(size=(TYPES, width))
    spread = np.arange(1, width + 1) ** -0.4
    tensors = {}
    for depth, name in enumerate(names):
        x = words[word] + 0.5 * depth * classes[kind] + draw.normal(size=(rows, width))
        tensors[name] = torch.from_numpy(np.float32(x * spread))
    text = np.arange(rows) // WORDS_A_SENTENCE
    position = np.arange(rows) % WORDS_A_SENTENCE
    frame = pd.DataFrame(
        {
            "text": text,
            "position": position,
            "token_id": word,
            "token": pd.Categorical([f"w{i}" for i in word]),
            "char_start": position * 6,
            "char_end": position * 6 + 5,
            "group": text,
            "word_index": position,
            "word": pd.Categorical([f"w{i}" for i in word]),
            "upos": pd.Categorical([f"C{i}" for i in kind]),
            "content": pd.Categorical([f"sentence {i}" for i in text]),
        }
    )
    store.write(0, tensors, frame)
    store.finish(1)
    return Store.open(folder / "store")


def parts() -> dict[str, Callable[[Store], Any]]:
    """The questions of `survey` that a store alone answers."""
    from layerscope.analyses import geometry, similarity, word_classes
    from layerscope.probes.erasers import fit_eraser
    from layerscope.probes.probe import probe

    quiet: dict[str, Any] = {"progress": False}
    return {
        "probe with control": lambda s: probe(s, "all", label="upos", **quiet),
        "description length": lambda s: probe(s, "all", label="upos", kind="mdl", **quiet),
        "word classes": lambda s: word_classes(s, label="upos", maps=("pca",), **quiet),
        "geometry": lambda s: geometry(s, **quiet),
        "similarity": lambda s: similarity(s, **quiet),
        "erasers": lambda s: [fit_eraser(s, site, "upos") for site in s.sites],
    }


def one_pass(store: Store) -> None:
    for site in store.sites:
        total = torch.zeros(store.sites[site].width, store.sites[site].width, dtype=torch.float64)
        for x, _ in store[site].batches(4096):
            rows = x.double()
            total += rows.T @ rows


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 rows, and nothing is written")
    quick = parser.parse_args().quick
    rows, sites, width = (2_000, 3, 64) if quick else (20_000, 6, 384)
    with tempfile.TemporaryDirectory() as folder:
        store = planted_store(Path(folder), rows, sites, width)
        seconds(lambda: one_pass(store))
        floor = seconds(lambda: one_pass(store))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        taken = {name: seconds(lambda work=work: work(store)) for name, work in parts().items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total = sum(taken.values())
    for name, spent in taken.items():
        print(f"{name:>20}  {spent:7.2f} s")
    print(f"{'all':>20}  {total:7.1f} s = {total / floor:.0f} passes over the store")
    print(f"peak memory {peak:.2f} GiB, {before:.2f} GiB of it before the first question")
    if not quick:
        shape = {"rows": rows, "sites": sites, "width": width, "classes": CLASSES}
        seconds_of = {name: round(spent, 2) for name, spent in taken.items()}
        figures = {"seconds": seconds_of, "total_s": round(total, 1), "floor_s": round(floor, 2)}
        memory = {"peak_gib": round(peak, 2), "before_gib": round(before, 2)}
        save("survey", {"shape": shape, **figures, "passes": round(total / floor), **memory})


if __name__ == "__main__":
    main()
