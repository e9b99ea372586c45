"""Two-dimensional maps of the same rows at every site, turned so that a point can be followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.neighbour_map import neighbour_map
from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import half_z

Floats = NDArray[np.float64]

METHODS = ("pca", "mds", "umap")
NAMES = {"pca": "PCA", "mds": "MDS", "umap": "UMAP"}
NEIGHBOURS = 15
"""Neighbours that UMAP connects each row with, and that trustworthiness looks at."""

MIN_DIST = 0.3
"""How close UMAP packs points: looser than its default of 0.1, so that they can be told apart."""
WITHIN = 0.98
"""Share of the points that a map has within a radius of 1."""


def checked_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods, in the order of `METHODS`.

    Raises:
        ValueError: one that is none of them.
    """
    wrong = [name for name in methods if name not in METHODS]
    if wrong or isinstance(methods, str):
        shown = methods if isinstance(methods, str) else wrong[0]
        raise ValueError(f"maps is a list of {', '.join(map(repr, METHODS))}; {shown!r} is not")
    return tuple(name for name in METHODS if name in methods)


def maps_of(
    x: Tensor,
    methods: Sequence[str],
    before: dict[str, Floats],
    *,
    seed: int = 0,
    say: Callable[[str], Any] = str,
) -> dict[str, Floats]:
    """Coordinates ``[rows, 2]`` by each method, for half-z-scored rows.

    PCA is the projection on the two directions of most variance (classical MDS of Euclidean distances
    is the same). MDS starts there and moves the points until the distances in the plane fit those
    between the rows best (SMACOF). UMAP starts there as well. Each map is centred, scaled so that
    98 % of the points lie within a radius of 1, and rotated or mirrored onto the one before.

    Args:
        x: ``[rows, width]``, three rows at least.
        before: Coordinates of the same rows at the site before; empty for the first.
        say: Told what is being done where it takes long.
    """
    z = half_z(x)
    start = _principal(z)
    found: dict[str, Floats] = {}
    for method in methods:
        if method == "pca":
            placed = start
        elif method == "mds":
            placed = _stretched(z, start)
        else:
            placed = _umap(z, start, seed, say)
        found[method] = _aligned(placed, before.get(method))
    return found


def trust(x: Tensor, placed: Floats) -> float:
    """Share of the neighbours on the map that are neighbours among the rows too; 0.5 is chance.

    Trustworthiness of Venna and Kaski (2001), with `NEIGHBOURS` neighbours.
    """
    from sklearn.manifold import trustworthiness

    near = min(NEIGHBOURS, (len(placed) - 1) // 2)
    return float(trustworthiness(half_z(x).cpu().numpy(), placed, n_neighbors=near))


def _principal(z: Tensor) -> Floats:
    axes = torch.linalg.svd(z, full_matrices=False).Vh[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    placed = z @ (axes * largest.sign()).T
    if placed.shape[1] < 2:  # a single feature
        placed = torch.nn.functional.pad(placed, (0, 1))
    return np.asarray(placed.cpu().numpy(), dtype=np.float64)


def _stretched(z: Tensor, start: Floats) -> Floats:
    from sklearn.manifold import smacof

    apart = distances(z).cpu().numpy()
    if not apart.any():  # all rows are one point, and there is nothing to fit
        return start
    placed, _ = smacof(apart, init=start, n_init=1, eps=1e-5, normalized_stress=False)
    return np.asarray(placed, dtype=np.float64)


def _umap(z: Tensor, start: Floats, seed: int, say: Callable[[str], Any]) -> Floats:
    say("UMAP is being loaded and compiled, once")
    placed = neighbour_map(
        z.float().cpu().numpy(),
        neighbours=NEIGHBOURS,
        min_dist=MIN_DIST,
        init=start.astype(np.float32),
        seed=seed,
    )
    say("")
    return placed


def _aligned(placed: Floats, before: Floats | None) -> Floats:
    """Centred, scaled so that nearly all points lie within 1, and turned onto the map before."""
    from scipy.linalg import orthogonal_procrustes

    centred = placed - placed.mean(0)
    # Not by the mean square: a few far points would press the others together at some layers.
    radius = np.quantile(np.sqrt(np.square(centred).sum(1)), WITHIN)
    centred = centred / radius if radius else centred
    if before is None:
        return np.asarray(centred, dtype=np.float64)
    turn, _ = orthogonal_procrustes(centred, before)
    return np.asarray(centred @ turn, dtype=np.float64)
