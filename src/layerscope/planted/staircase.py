"""Two decoders of different depth that compute the same: which layers correspond is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from layerscope.planted.linear_stack import linear_stack

BLOCKS, WIDTH, WIDER, VOCAB = 3, 5, 8, 30
STEPS = (0, 0, 1, 1, 2, 2, 3)
"""For each residual of the deep model, the residual of the shallow one that is a linear image of it."""


def staircase(*, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """A shallow model that mixes tokens in each block, and a deep one in a rotated larger basis.

    Block i of the shallow model is ``h + A mean(h)``. In the deep one, block 2i applies an
    invertible N to each token, and block 2i + 1 does what block i did and takes N back. So deep
    states 2i and 2i + 1 are linear images of shallow state i, and of no other.
    """
    generator = torch.Generator().manual_seed(seed)

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    table = matrix(VOCAB, WIDTH)
    mixing = [0.7 * matrix(WIDTH, WIDTH) for _ in range(BLOCKS)]
    basis = torch.linalg.qr(matrix(WIDER, WIDTH))[0]
    attention: list[Any] = []
    mlp: list[Any] = []
    identity = torch.eye(WIDER, dtype=torch.float64)
    for a in mixing:
        turn = identity + 0.3 * matrix(WIDER, WIDER)
        back = torch.linalg.inv(turn)
        attention += [None, turn @ basis @ a @ basis.T @ back]
        mlp += [turn - identity, back - identity]
    return linear_stack(table, attention=mixing), linear_stack(
        table @ basis.T, attention=attention, mlp=mlp
    )
