"""Anisotropy: the mean cosine of two different rows (Ethayarajh 2019), from sums alone."""

from __future__ import annotations

from math import sqrt

from torch import Tensor


def mean_cosine(total: Tensor, n: Tensor | int) -> Tensor:
    """Mean cosine ``[...]`` of all pairs of different rows.

    Args:
        total: ``[..., width]`` sum of the rows, each divided by its length.
        n: ``[...]`` how many rows were summed.
    """
    return (total.square().sum(-1) - n) / (n * (n - 1))


def contributions(total: Tensor, squares: Tensor, n: int) -> Tensor:
    """What each dimension adds to the mean cosine, ``[width]``; they sum to it.

    Args:
        total: ``[width]`` sum of the rows, each divided by its length.
        squares: ``[width]`` sum of their squares.
        n: Rows.
    """
    return (total.square() - squares) / (n * (n - 1))


def isotropic_deviation(n: int, width: int) -> float:
    """Standard deviation of the mean cosine of `n` rows with uniform directions; its mean is 0.

    The cosines of different pairs are uncorrelated and have variance ``1 / width``.
    """
    return sqrt(2 / (n * (n - 1) * width))
