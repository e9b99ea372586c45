"""Points for conditions whose geometry is known, noisy rows around them, and nets that learn them.

On the factorised square a variable is coded by one direction (parallelism 1); the exclusive or of two
variables has parallelism -1; on a simplex every dichotomy can be decoded, and none generalises.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn


def cube(variables: int) -> Tensor:
    """``[2 ** variables, variables]``: all combinations of -1 and 1, the first variable slowest."""
    return torch.tensor(list(product([-1.0, 1.0], repeat=variables)), dtype=torch.float64)


def simplex(conditions: int) -> Tensor:
    """``[conditions, conditions]``: points all equally far from each other."""
    return torch.eye(conditions, dtype=torch.float64)


def noisy_rows(
    points: Tensor, *, each: int, noise: float, width: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Rows ``[points * each, width]`` around the points, turned into `width` dimensions; and codes."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    codes = torch.arange(len(points)).repeat_interleave(each)
    spread = torch.randn(len(codes), width, generator=generator, dtype=torch.float64)
    return points[codes].double() @ turn[: points.shape[1]] + noise * spread, codes


def trained_hidden(
    activation: str,
    x: Tensor,
    targets: Tensor,
    *,
    units: int = 100,
    steps: int = 800,
    seed: int = 0,
) -> Tensor:
    """Hidden states ``[rows, units]`` of a net with one hidden layer, trained on signs.

    Args:
        activation: ``"tanh"`` or ``"relu"``.
        x: ``[rows, width]``.
        targets: ``[rows, outputs]`` of -1 and 1.
    """
    act = {"tanh": torch.tanh, "relu": torch.relu}[activation]
    generator = torch.Generator().manual_seed(seed)
    x, targets = x.float(), targets.float()
    inner = torch.randn(x.shape[1], units, generator=generator) / x.shape[1] ** 0.5
    outer = torch.randn(units, targets.shape[1], generator=generator) / units**0.5
    weights = [inner, torch.zeros(units), outer, torch.zeros(targets.shape[1])]
    weights = [w.requires_grad_() for w in weights]
    descent = torch.optim.Adam(weights, lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=generator)
        out = act(x[rows] @ weights[0] + weights[1]) @ weights[2] + weights[3]
        descent.zero_grad()
        nn.functional.soft_margin_loss(out, targets[rows]).backward()
        descent.step()
    with torch.no_grad():
        hidden: Tensor = act(x @ weights[0] + weights[1])
    return hidden
