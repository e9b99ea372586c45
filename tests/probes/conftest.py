"""Planted rows whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def gaussians() -> Callable[..., tuple[Tensor, Tensor]]:
    """``gaussians(gap, rows, width)``: two classes of unit noise, means `gap` apart."""

    def make(gap: float, rows: int, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(rows) % 2
        x = torch.randn(rows, width, generator=generator)
        x[:, 0] += gap * (y - 0.5)
        return x, y

    return make
