"""How many dichotomies decoders tell on held-out rows, and the same with other groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.measures.condition_decoders import FoldGrams, accuracies, hit_sums
from layerscope.analyses.measures.dichotomies import Signs
from layerscope.analyses.tasks.task_conditions import Conditions
from layerscope.probes.scoring.intervals import GroupBootstrap

DRAWS = 200


@dataclass(frozen=True)
class Scores:
    """Right answers of decoders of several dichotomies."""

    hits: Tensor
    """``[blocks, conditions, sets]``"""
    counts: Tensor
    """``[blocks, conditions]`` rows."""
    test: Signs

    @classmethod
    def of(
        cls,
        at: Conditions,
        grams: list[FoldGrams],
        train: Signs,
        test: Signs,
        codes: NDArray[np.int64] | None = None,
    ) -> Scores:
        """Decoders of `train`, asked about `test`; `codes`: other conditions of the rows."""
        these = at.codes if codes is None else codes
        size = (int(at.blocks.max()) + 1) * len(at)
        cells = np.bincount(at.blocks * len(at) + these, minlength=size)
        counts = torch.from_numpy(cells).view(-1, len(at)).double()
        return cls(hit_sums(grams, these, at.blocks, train, test), counts, test)

    @property
    def whole(self) -> Tensor:
        """Accuracies ``[sets]``, every tested condition counted alike."""
        return accuracies(self.hits.sum(0), self.counts.sum(0), self.test)

    @property
    def without(self) -> Tensor:
        """``[blocks, sets]``: accuracies where each block of groups is left out of the test."""
        left = self.hits.sum(0) - self.hits
        return accuracies(left, self.counts.sum(0) - self.counts, self.test)

    def drawn(self, seed: int) -> Tensor:
        """``[draws, sets]``: accuracies where blocks of groups are drawn again, with replacement."""
        blocks = np.arange(len(self.hits))
        times = GroupBootstrap(blocks, draws=DRAWS, seed=seed).times.astype(np.float64)
        weights = torch.from_numpy(times)
        counts = (weights @ self.counts).clamp_min(1)
        parts = [
            accuracies(torch.tensordot(w, self.hits, 1), n, self.test)
            for w, n in zip(weights.split(1), counts.split(1), strict=True)
        ]
        return torch.cat(parts)
