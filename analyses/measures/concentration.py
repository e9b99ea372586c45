"""On how few entries the weight of a row rests: energy of neurons, attention over keys."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-6
"""Of a row's sum: a share is reached when no more than this is missing, as rounding may leave."""


def cover(weights: Tensor, shares: Sequence[float]) -> Tensor:
    """The fewest entries of each row that together hold each share of the row's sum.

    With attention probabilities and a share of 0.9 this is the k of Ramsauer et al. (2021,
    arXiv 2008.02217); with squared activations, the number of neurons that carry the energy.

    >>> cover(torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]), [0.9])
    tensor([[3],
            [1]])

    Args:
        weights: ``[..., entries]``, at least 0.
        shares: Between 0 and 1.

    Returns:
        ``[..., shares]`` int64; 0 for a row of zeros.
    """
    held = _sorted(_wide(weights)).cumsum(-1, dtype=torch.float64)
    total = held[..., -1:]
    # So many of the smallest may be missing.
    missing = [1 - share + TOLERANCE for share in shares]
    parts = total * torch.tensor(missing, dtype=held.dtype, device=held.device)
    fewest: Tensor = held.shape[-1] - torch.searchsorted(held, parts.contiguous(), right=True)
    return fewest


def effective_entries(probabilities: Tensor) -> Tensor:
    """The exponential of the entropy of each row, ``[...]``: n where n entries are equal.

    Args:
        probabilities: ``[..., entries]``, each row summing to 1.
    """
    effective: Tensor = torch.special.entr(_wide(probabilities)).sum(-1).exp()
    return effective


def gaussian_share(spread: float, share: float = 0.9) -> float:
    """`cover` of a softmax over many i.i.d. Gaussian logits, as a share of the entries.

    The Lorenz curve of the log-normal distribution: Phi(Phi^-1(share) - spread).

    >>> round(512 * gaussian_share(1.0))
    313
    """
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(share) - spread)


def _sorted(x: Tensor) -> Tensor:
    """Rows in ascending order."""
    if x.device.type != "cpu":
        return x.sort(-1).values
    # numpy sorts rows of hundreds of numbers some thirty times as fast as torch on a CPU.
    return torch.from_numpy(np.sort(x.detach().numpy(), axis=-1))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
