"""A feature that fires only together with another: what tempts a dictionary into absorption."""

from __future__ import annotations

import torch

from layerscope.planted.sparse_features import SparseFeatures, sparse_features

PARENT, CHILD = 0, 1
"""Numbers of the two features; all others are independent of them and of each other."""


def absorbed(
    rows: int,
    width: int = 20,
    features: int = 12,
    *,
    parent: float = 0.3,
    child: float = 0.4,
    other: float = 0.08,
    seed: int = 0,
) -> SparseFeatures:
    """Orthonormal features of amplitude 1, of which number 1 fires only where number 0 does.

    A sparse dictionary pays for two latents where both fire. It saves one by giving the child's
    latent both directions, and the parent's latent, whose direction stays perfect, is silent
    wherever the child fires (Chanin et al. 2024, arXiv 2409.14507).

    Args:
        parent: Probability of feature 0.
        child: Probability of feature 1 where feature 0 fires.
        other: Probability of each of the others.

    Raises:
        ValueError: fewer than the two features, or more than `width`.
    """
    if features < 2:
        raise ValueError(f"{features} features: a parent and its child are 2")
    p = torch.full((features,), other)
    p[PARENT], p[CHILD] = parent, child
    drawn = sparse_features(
        rows, width, features, probability=p, amplitude=(1.0, 1.0), orthonormal=True, seed=seed
    )
    amplitudes = drawn.amplitudes.clone()
    amplitudes[:, CHILD] *= amplitudes[:, PARENT]
    p[CHILD] = parent * child
    return SparseFeatures(amplitudes @ drawn.directions, drawn.directions, amplitudes, p)
