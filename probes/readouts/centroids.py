"""Centroids of two kinds of traces at every layer: CLUE, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class CentroidReadout(Readout):
    """Scores a trace by minus its distance to the centroid of each class, averaged over layers."""

    kind: ClassVar[str] = "centroids"

    centroids: Tensor
    """``[layers, 2, width]``"""
    scale: Tensor
    """``[layers]`` what the deltas of each layer are divided by."""
    weights: Tensor
    """``[layers]`` that add up to 1."""
    metric: Literal["euclidean", "cosine"] = "euclidean"

    @property
    def width(self) -> int:
        return self.centroids.shape[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., 2]`` scores of deltas ``[..., layers, width]``: end of the trace minus start."""
        self.check(x)
        if x.ndim < 2 or x.shape[-2] != len(self.centroids):
            raise ValueError(
                f"this readout was trained on {len(self.centroids)} layers, got {list(x.shape)}; "
                "give [..., layers, width]"
            )
        parts = (part.to(x.device) for part in (self.centroids, self.scale, self.weights))
        centroids, scale, weights = parts
        rows, cores = x.float()[..., None, :], centroids.expand(*x.shape[:-1], 2, self.width)
        if self.metric == "cosine":
            apart = 1 - torch.nn.functional.cosine_similarity(rows, cores, dim=-1)
        else:
            apart = torch.linalg.vector_norm(rows - cores, dim=-1) / scale[:, None]
        scores: Tensor = -(apart * weights[:, None]).sum(-2)
        return scores
