"""Codes whose norms, and the numbers of latents that reach them, are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KnownNorms:
    """Rows with the codes that make them, ``x = codes @ directions``."""

    x: Tensor
    """``[rows, width]`` float64."""
    codes: Tensor
    """``[rows, latents]``"""
    directions: Tensor
    """``[latents, width]``"""
    kept: Tensor
    """``[rows]``: as many of the largest codes as bring their norm nearest to that of the row."""


def varied_supports(rows: int, width: int = 32, *, most: int = 19, seed: int = 0) -> KnownNorms:
    """Orthonormal directions, of which each row has its own number, from 1 to `most`.

    At right angles the norm of a row is that of its codes, whatever their number, so that the
    selection by norm (Lee et al. 2025, arXiv 2503.24277) keeps exactly the true ones.

    Raises:
        ValueError: `most` is not below the width.
    """
    if not 1 <= most < width:
        raise ValueError(f"up to {most} of {width} orthonormal directions: choose 1 to {width - 1}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, width, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(drawn)[0].T.contiguous()
    kept = torch.randint(1, most + 1, (rows,), generator=generator)
    order = torch.rand(rows, width, generator=generator).argsort(1)
    sizes = 0.5 + torch.rand(rows, width, generator=generator, dtype=torch.float64)
    codes = sizes * (order < kept[:, None])
    return KnownNorms(codes @ directions, codes, directions, kept)


def unit_pair(cosine: float, *, signs: tuple[float, float] = (1.0, 1.0)) -> KnownNorms:
    """One row that is the sum of two unit vectors with this cosine, each with its sign.

    ``|x|^2 = 2 + 2 s t cosine`` while the codes' squared norm is 2, so the smallest epsilon that
    fits the row is ``|cosine|`` itself.
    """
    directions = torch.tensor([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]], dtype=torch.float64)
    codes = torch.tensor([signs], dtype=torch.float64)
    x = codes @ directions
    reached = codes.square().sort(descending=True).values.cumsum(1).sqrt()
    kept = (reached - x.norm(dim=1, keepdim=True)).abs().argmin(1) + 1
    return KnownNorms(x, codes, directions, kept)


def notebook_example() -> KnownNorms:
    """Three rows from the authors' notebook, whose directions are neither short nor at right angles.

    The norms of the rows are 54.41, 15.0 and 67.80. All three keep two latents, since the norm that
    three reach is replaced by a large number.
    """
    codes = torch.tensor([[5.0, 4.0, 3.0], [1.0, 1.0, 1.0], [1.0, 10.0, 2.0]], dtype=torch.float64)
    directions = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    return KnownNorms(codes @ directions, codes, directions, torch.tensor([2, 2, 2]))
