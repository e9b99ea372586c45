"""Coordinates in which probes are fitted: principal components of like scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-6
"""Standard deviation, relative to the largest, below which a direction is numerical noise."""


@dataclass(frozen=True)
class Coordinates:
    """``z = x @ basis``, largest variance first."""

    basis: Tensor
    """``[width, kept]``"""

    @classmethod
    def of(cls, x: Tensor, components: int, *, centred: bool) -> Coordinates:
        """The first `components` have unit scale; the others keep their size beside the last of these.

        Args:
            x: ``[words, width]`` of training sentences.
            centred: Whether the mean is taken off first: it is of no account to differences, but
                is to lengths.
        """
        rows = x.double()
        if centred:
            rows = rows - rows.mean(0)
        values, vectors = torch.linalg.eigh(rows.T @ rows / max(1, len(rows)))
        values, vectors = values.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
        kept = values > FLOOR * values[0].clamp_min(1e-30)
        values, vectors = values[kept], vectors[:, kept]
        if not len(values):
            raise ValueError("every word has the same activations: there is no tree to read")
        scale = values.clamp_min(values[min(components, len(values)) - 1].item())
        return cls((vectors / scale).to(x.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """``[words, kept]``"""
        return x @ self.basis

    def outside(self, b: Tensor) -> Tensor:
        """A probe of these coordinates ``[rank, kept]`` as one of activations, ``[rank, width]``."""
        return b @ self.basis.T
