"""A map of a dictionary: latents that write alike lie together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.neighbour_map import neighbour_map

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
    return neighbour_map(rows, neighbours=NEIGHBOURS, min_dist=MIN_DIST, metric="cosine", seed=seed)


def _principal(rows: NDArray[np.float32]) -> Floats:
    centred = (rows - rows.mean(0)).astype(np.float64)
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(rows), 2))
    count = min(2, len(size))
    found[:, :count] = u[:, :count] * size[:count]
    return found
