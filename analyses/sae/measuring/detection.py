"""How well each latent says when a planted feature is there: precision, recall and F1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Detection:
    """Counts of latents that fire, features that are there, and both at once.

    Args:
        latents: [known] latent that stands for each planted feature, such as `Matched.latent`; -1
            where there is none.
    """

    def __init__(self, latents: NDArray[np.int64]) -> None:
        self.latents = latents
        self._there = torch.from_numpy(latents >= 0)
        self._counts = torch.zeros(3, len(latents), dtype=torch.int64)

    def add(self, codes: Tensor, features: Tensor) -> None:
        """Some rows: codes [rows, latents] and planted features [rows, known]; not 0 means there."""
        index = torch.from_numpy(np.maximum(self.latents, 0)).to(codes.device)
        fired = (codes[:, index] != 0) & self._there.to(codes.device)
        present = features.to(codes.device) != 0
        found = torch.stack([(fired & present).sum(0), fired.sum(0), present.sum(0)])
        self._counts += found.cpu()

    def scores(self) -> dict[str, NDArray[Any]]:
        """``precision``, ``recall``, ``f1``, each [known]; a latent that never fires has 0, a feature
        that never was there NaN."""
        both, fired, present = (row.numpy().astype(np.float64) for row in self._counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(fired > 0, both / fired, 0.0)
            recall = both / present
            f1 = 2 * both / (fired + present)
        unknown = present == 0
        return {
            name: np.where(unknown, np.nan, value)
            for name, value in (("precision", precision), ("recall", recall), ("f1", f1))
        }
