"""Hidden states that lie together: by the class of a word, and without any label."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.rows import planted_store

CLASSES = ("DET", "NOUN", "VERB")
EACH = 40
"""Rows of each class that are measured."""
WIDTH = 12
NEIGHBOURS = 10


def _word_classes(seed: int) -> Iterator[Reading]:
    """Every word's state is the corner of the class of the word after it, or noise."""
    from layerscope.analyses import word_classes

    rows, sites = _sentences(seed)
    with planted_store(sites, **rows) as store:
        found = word_classes(
            store,
            label="upos",
            of="next",
            maps=(),
            per_class=EACH,
            neighbours=NEIGHBOURS,
            draws=40,
            seed=seed,
            progress=False,
        )

    def value(measure: str, layer: int) -> float:
        return float(found.curve(measure).set_index("layer")["value"][layer])

    k, n = len(CLASSES), len(CLASSES) * EACH
    # Half-z-scored corners of a triangle are 3/2 apart, over the root of three features.
    yield Reading("GDV, every row at its class", -sqrt(3) / 2, value("gdv", 1), 1e-6, "GDV")
    for measure in ("silhouette", "purity", "ari"):
        yield Reading(f"{measure}, every row at its class", 1.0, value(measure, 1), 1e-6)
    # First-order terms of the two means cancel; what is left is 1 / each of the spread of distances.
    spread = 0.5 / sqrt(WIDTH)
    error = spread * sqrt(2 / (k - 1)) / EACH
    yield Reading("GDV, noise", 0.0, value("gdv", 0), 3 * error, "GDV")
    chance = (EACH - 1) / (n - 1)
    # Two rows that are each other's neighbours count twice, so at worst the variance doubles.
    error = sqrt(2 * chance * (1 - chance) / (n * NEIGHBOURS))
    yield Reading("purity, noise", chance, value("purity", 0), 3 * error, "share of neighbours")


def _sentences(
    seed: int, texts: int = 40, length: int = 8
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of sentences of random classes; block 0 is noise, block 1 knows the next class."""
    import numpy as np
    import torch

    from layerscope.planted.clouds import gaussian, isotropic, simplex

    kinds = np.random.default_rng(seed).integers(len(CLASSES), size=(texts, length))
    after = np.roll(kinds, -1, axis=1).ravel()
    number = np.arange(texts * length)
    rows = {
        "text": number // length,
        "position": number % length,
        "word_index": number % length,
        "group": [f"g{text}" for text in number // length],
        "upos": np.array(CLASSES, dtype=object)[kinds.ravel()],
    }
    sites = {
        "blocks.0.resid_post": gaussian(len(number), isotropic(WIDTH), seed=seed),
        "blocks.1.resid_post": simplex(len(CLASSES))[torch.from_numpy(after)],
    }
    return rows, sites


def _clusters(seed: int) -> Iterator[Reading]:
    """Four clouds of known sizes, ten standard deviations apart; and one cloud."""
    import numpy as np
    import torch
    from scipy.stats import chi2

    from layerscope.analyses import clusters
    from layerscope.planted.clouds import gaussian, isotropic

    sizes = (90, 60, 50, 40)
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), sizes))
    count = len(codes)
    far = 20 * torch.eye(4, 6, dtype=torch.float64)[torch.from_numpy(codes)]
    sites = {
        "blocks.0.resid_post": gaussian(count, isotropic(6), seed=seed),
        "blocks.1.resid_post": gaussian(count, isotropic(6), seed=seed + 1) + far,
    }
    groups = [f"g{row // 4}" for row in range(count)]
    with planted_store(sites, group=groups, kind=np.array(list("abcd"))[codes]) as store:
        found = clusters(store, label="kind", k=4, least=20, resamples=2, seed=seed, progress=False)
    told = " ".join(str(n) for n in sorted(found.clusters(1, "kmeans")["n"], reverse=True))
    yield Reading("sizes by k-means", " ".join(map(str, sizes)), told, unit="rows")
    agreement = found.curve("agreement").set_index("layer")["value"]
    yield Reading("agreement with the clouds", 1.0, float(agreement[1]), 1e-9, "ARI")
    dense = found.curve("silhouette", "hdbscan").set_index("layer")["clusters"]
    yield Reading("clusters by HDBSCAN", 4.0, float(dense[1]), unit="clusters")
    # For unrelated partitions into 4 and 4 the index is (X2 - 9) / (3 rows), X2 the chi-squared of
    # their table; as far out as three standard errors of a normal number is its 0.00135 quantile.
    allowed = float(chi2.isf(0.00135, 9) - 9) / (3 * count)
    yield Reading("agreement, one cloud", 0.0, float(agreement[0]), allowed, "ARI")
    yield Reading("clusters by HDBSCAN, one cloud", 0.0, float(dense[0]), unit="clusters")


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "word_classes",
        "What they look like",
        "At one layer every state is a corner that stands for the class of the next word; at "
        "another the states are noise.",
        "closed form: collapsed classes, and labels that say nothing (Schilling et al. 2021)",
        _word_classes,
    ),
    Instrument(
        "clusters",
        "What they look like",
        "Four clouds of 90, 60, 50 and 40 rows far apart at one layer, a single cloud at another.",
        "the construction",
        _clusters,
    ),
)
