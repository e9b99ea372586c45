"""Kernels of the same rows compared: how alike two matrices of inner products are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision


def gram(x: Tensor) -> Tensor:
    """Inner products of rows ``[n, n]``; a row is all that follows the first axis."""
    flat = x.flatten(1)
    with full_precision():
        return flat @ flat.T


def centred(kernel: Tensor, block: int = 1) -> Tensor:
    """The kernel of rows whose mean was taken away: ``H K H``; over the last two axes.

    Args:
        block: Rows that belong together, such as the outputs of one sample: each of them is centred
            over the samples by itself.
    """
    n = kernel.shape[-1] // block
    split = kernel.unflatten(-1, (n, block)).unflatten(-3, (n, block))
    rows, columns = split.mean(-2, keepdim=True), split.mean(-4, keepdim=True)
    middle = rows.mean(-4, keepdim=True)
    found: Tensor = (split - rows - columns + middle).flatten(-2).flatten(-3, -2)
    return found


def alignment(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of two kernels as long vectors, over the last two axes; NaN where one of them is 0.

    Kernel-target alignment of Cristianini et al. (2001); with both kernels centred, linear CKA.

    >>> alignment(torch.eye(3), 2 * torch.eye(3))
    tensor(1.)
    """
    inner = (one * other).sum((-2, -1))
    return inner / (_norm(one) * _norm(other))


def participation_ratio(kernel: Tensor) -> Tensor:
    """``(sum of eigenvalues)² / sum of squares``, over the last two axes: 1 to n for n rows.

    The dimension of a cloud of points when `kernel` is centred.
    """
    trace = torch.diagonal(kernel, dim1=-2, dim2=-1).sum(-1)
    return trace.square() / _norm(kernel).square()


def shuffled(kernel: Tensor, draws: int, *, block: int = 1, seed: int = 0) -> Iterator[Tensor]:
    """The kernel with its rows in random order, once for each draw.

    Args:
        block: Rows that stay together, such as the outputs of one sample.
    """
    generator = torch.Generator().manual_seed(seed)
    inside = torch.arange(block)
    for _ in range(draws):
        order = torch.randperm(len(kernel) // block, generator=generator)
        rows = (order[:, None] * block + inside).flatten().to(kernel.device)
        yield kernel[rows][:, rows]


def _norm(kernel: Tensor) -> Tensor:
    return kernel.square().sum((-2, -1)).sqrt()
