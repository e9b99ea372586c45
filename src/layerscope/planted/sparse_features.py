"""Rows that are sparse sums of known directions: what a sparse autoencoder should find again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseFeatures:
    """Rows and the truth about them: ``x = amplitudes @ directions``, exactly."""

    x: Tensor
    """``[rows, width]`` float32."""
    directions: Tensor
    """``[features, width]``; of length 1 unless the maker says otherwise."""
    amplitudes: Tensor
    """``[rows, features]``, zero where a feature is silent, positive elsewhere."""
    probability: Tensor
    """``[features]``, how often each fires."""

    @property
    def support(self) -> Tensor:
        """``[rows, features]`` bool: which features fire where."""
        return self.amplitudes > 0

    @property
    def l0(self) -> float:
        """Expected number of features per row."""
        return float(self.probability.sum())


def sparse_features(
    rows: int,
    width: int,
    features: int,
    *,
    probability: float | Sequence[float] | Tensor,
    amplitude: tuple[float, float] = (0.5, 1.5),
    orthonormal: bool = False,
    pairs: float = 0.0,
    seed: int = 0,
) -> SparseFeatures:
    """Features that fire at random, each with an amplitude uniform between two numbers.

    Args:
        probability: Of firing, one number for all features or one for each.
        amplitude: Smallest and largest.
        orthonormal: Directions at right angles; otherwise random ones of length 1, whose cosines
            have a standard deviation of ``1 / sqrt(width)``.
        pairs: Share of rows at which feature 2i+1 uses the random number of feature 2i. The
            probabilities stay as they are, and a pair with probabilities p <= q fires together with
            probability ``pairs p + (1 - pairs) p q``; where p = q, `pairs` is the correlation of
            the two.
        seed: Of everything. The directions are the same for every number of rows.

    Raises:
        ValueError: more orthonormal directions than the width holds, or a probability outside 0 to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    p = torch.as_tensor(probability, dtype=torch.float32).expand(features)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"probabilities from {p.min():g} to {p.max():g}: they lie between 0 and 1")
    directions = _directions(width, features, orthonormal, generator)
    draws = torch.rand(rows, features, generator=generator)
    if pairs:
        led = draws[:, 1::2]
        same = torch.rand(led.shape, generator=generator) < pairs
        draws[:, 1::2] = torch.where(same, draws[:, 0::2][:, : led.shape[1]], led)
    least, most = amplitude
    sizes = least + (most - least) * torch.rand(rows, features, generator=generator)
    amplitudes = sizes * (draws < p)
    return SparseFeatures(amplitudes @ directions, directions, amplitudes, p.clone())


def zipf(features: int, least: float, most: float) -> Tensor:
    """Probabilities ``[features]`` that fall with a power of the rank, from `most` to `least`."""
    exponent = math.log(most / least) / math.log(features)
    return most * torch.arange(1, features + 1, dtype=torch.float32).pow(-exponent)


def _directions(width: int, count: int, orthonormal: bool, generator: torch.Generator) -> Tensor:
    if orthonormal and count > width:
        raise ValueError(f"{count} orthonormal directions in {width} dimensions cannot be made")
    drawn = torch.randn(width, count, generator=generator, dtype=torch.float64)
    made: Tensor = torch.linalg.qr(drawn)[0] if orthonormal else drawn / drawn.norm(dim=0)
    return made.T.float().contiguous()
