"""Silhouettes from sums of distances, so that many labellings share one distance matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def silhouettes(sums: Tensor, codes: Tensor) -> Tensor:
    """How much nearer each row lies to its own class than to the nearest other one, -1 to 1.

    ``(b - a) / max(a, b)`` with the mean distance ``a`` to the other rows of its class and ``b`` to the
    rows of the nearest other class; 0 for a row alone in its class (Rousseeuw 1987, and as
    `sklearn.metrics.silhouette_samples`).

    Args:
        sums: ``[draws, rows, classes]`` from `gdv.class_sums`, without weights.
        codes: ``[draws, rows]`` class numbers from 0.

    Returns:
        ``[draws, rows]``
    """
    codes = codes.to(sums.device)
    counts = torch.zeros(len(codes), sums.shape[2], dtype=sums.dtype, device=sums.device)
    counts.scatter_add_(1, codes, torch.ones_like(codes, dtype=sums.dtype))
    own = codes[:, :, None]
    size = counts.gather(1, codes)
    inside = sums.gather(2, own)[:, :, 0] / (size - 1).clamp_min(1)
    means = sums / counts[:, None, :]  # an empty class is at inf or nan, and is never the nearest
    means = means.masked_fill((counts == 0)[:, None, :], torch.inf)
    outside = means.scatter(2, own, torch.inf).amin(2)
    largest = torch.maximum(inside, outside)
    found = (outside - inside) / largest
    return found.masked_fill((largest == 0) | (size == 1), 0.0)
