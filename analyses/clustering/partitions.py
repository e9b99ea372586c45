"""Clusters without labels: k-means and HDBSCAN, how well apart they lie, how stable they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import class_sums
from layerscope.analyses.measures.silhouette import silhouettes

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Method = Literal["kmeans", "hdbscan"]
Partition = Callable[[Floats], Integers]
"""Rows ``[rows, width]`` to cluster numbers ``[rows]``, -1 for rows in none."""

METHODS: tuple[Method, ...] = ("kmeans", "hdbscan")
NAMES = {"kmeans": "k-means", "hdbscan": "HDBSCAN"}
COMPONENTS = 10
"""Principal components that HDBSCAN is given: density means little in hundreds of dimensions."""
KEPT = 0.8
"""Share of the groups in each resample."""


@dataclass(frozen=True)
class Stability:
    """What becomes of clusters when some of the data are left out."""

    agreement: Floats
    """``[resamples]`` adjusted Rand index with the clusters of all rows, on the rows that are there.

    NaN where all rows are in one cluster or in none: nothing could agree or disagree. NaN for a
    single group, of which nothing can be left out.
    """
    overlap: Floats
    """``[clusters]`` mean Jaccard overlap of a cluster with the most similar one (Hennig 2007)."""


def partition(method: Method, *, k: int, least: int, seed: int) -> Partition:
    """How rows are put into clusters; the largest cluster is number 0."""
    return _kmeans(k, seed) if method == "kmeans" else _hdbscan(least)


def silhouettes_of(z: Tensor, parts: Integers) -> Floats:
    """Silhouette of each row that is in a cluster, ``[rows]``; NaN for the others, or for one cluster."""
    found = np.full(len(parts), np.nan)
    inside = parts >= 0
    if parts.max() < 1:
        return found
    codes = torch.from_numpy(parts[inside])[None]
    d = distances(z[torch.from_numpy(inside)])
    found[inside] = silhouettes(next(class_sums(d, codes)), codes.to(d.device))[0].cpu().numpy()
    return found


def stability(
    z: Floats, parts: Integers, groups: Integers, make: Partition, *, resamples: int, seed: int
) -> Stability:
    """Cluster again with a fifth of the groups left out, several times."""
    from sklearn.metrics import adjusted_rand_score

    generator = np.random.default_rng(seed)
    count, clusters = int(groups.max()) + 1, int(parts.max()) + 1
    if count < 2:
        return Stability(np.full(resamples, np.nan), np.full(clusters, np.nan))
    agreement, overlap = [], np.zeros(clusters)
    for _ in range(resamples):
        kept = generator.permutation(count)[: min(count - 1, round(KEPT * count))]
        rows = np.flatnonzero(np.isin(groups, kept))
        again = make(z[rows])
        agreement.append(adjusted_rand_score(parts[rows], again) if clusters > 1 else np.nan)
        overlap += _overlap(parts[rows], again, clusters)
    return Stability(np.array(agreement), overlap / resamples)


def without_structure(z: Floats, seed: int) -> Floats:
    """The same features, each in an order of its own: same distributions, nothing between them."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(feature) for feature in z.T], axis=1)


def _kmeans(k: int, seed: int) -> Partition:
    def parts(z: Floats) -> Integers:
        from sklearn.cluster import KMeans

        distinct = len(np.unique(z, axis=0))
        return _by_size(KMeans(min(k, distinct), n_init=3, random_state=seed).fit_predict(z))

    return parts


def _hdbscan(least: int) -> Partition:
    def parts(z: Floats) -> Integers:
        from sklearn.cluster import HDBSCAN

        left, sizes, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
        placed = (left * sizes)[:, :COMPONENTS]
        return _by_size(HDBSCAN(min_cluster_size=least, copy=True).fit_predict(placed))

    return parts


def _by_size(parts: NDArray[np.int32]) -> Integers:
    """Clusters renumbered, the largest first; -1 stays."""
    found = np.full(len(parts), -1, dtype=np.int64)
    inside = parts >= 0
    if inside.any():
        sizes = np.bincount(parts[inside])
        rank = np.argsort(np.argsort(-sizes, kind="stable"))
        found[inside] = rank[parts[inside]]
    return found


def _overlap(parts: Integers, again: Integers, clusters: int) -> Floats:
    """Best Jaccard overlap of each cluster with one of the new ones."""
    best = np.zeros(clusters)
    for one in range(clusters):
        own = parts == one
        for other in np.unique(again[own & (again >= 0)]):
            new = again == other
            best[one] = max(best[one], (own & new).sum() / (own | new).sum())
    return best
