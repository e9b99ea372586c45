"""Neighbour purity: the share of a row's nearest neighbours that have its class."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(d: Tensor, k: int) -> Tensor:
    """Numbers of the `k` nearest other rows, ``[rows, k]``, from distances ``[rows, rows]``.

    Raises:
        ValueError: fewer than ``k + 1`` rows.
    """
    if not 1 <= k < len(d):
        raise ValueError(f"{k} neighbours need more than {k} rows, there are {len(d)}")
    return d.clone().fill_diagonal_(torch.inf).topk(k, largest=False).indices


def purity(index: Tensor, codes: Tensor) -> Tensor:
    """Share of each row's neighbours that have its class, 0 to 1, ``[draws, rows]``.

    Args:
        index: ``[rows, k]`` neighbours of each row.
        codes: ``[draws, rows]`` class numbers.
    """
    codes = codes.to(index.device)
    return (codes[:, index] == codes[:, :, None]).double().mean(2)
