"""A map of a dictionary: latents that write alike lie together."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LAYOUTS = ("umap", "pca", "none")
NEIGHBOURS, MIN_DIST = 15, 0.15
LEAST = 12
"""Fewer latents have too few neighbours for UMAP."""

Floats = NDArray[np.float64]


def directions_map(decoder: Tensor, layout: str, *, seed: int = 0) -> Floats:
    """Places ``[latents, 2]`` of decoder rows ``[latents, width]``, all taken at length 1.

    ``umap`` keeps neighbours by cosine together (McInnes et al. 2018, arXiv 1802.03426); below
    `LEAST` rows it becomes ``pca``, the projection on the two directions of most variance. NaN for
    ``none``.
    """
    rows = np.asarray(decoder.detach().float().cpu().numpy())
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if layout == "none":
        return np.full((len(rows), 2), np.nan)
    if layout == "pca" or len(rows) < LEAST:
        return _principal(rows)
    with warnings.catch_warnings():
        # It says that a seed rules out several workers, and numba that something will change.
        warnings.simplefilter("ignore")
        from umap import UMAP

        model = UMAP(
            n_neighbors=min(NEIGHBOURS, len(rows) - 1),
            min_dist=MIN_DIST,
            metric="cosine",
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(model.fit_transform(rows), dtype=np.float64)


def _principal(rows: NDArray[np.float32]) -> Floats:
    centred = (rows - rows.mean(0)).astype(np.float64)
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(rows), 2))
    count = min(2, len(size))
    found[:, :count] = u[:, :count] * size[:count]
    return found
