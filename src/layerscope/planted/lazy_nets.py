"""Two-layer networks whose output scale decides whether they learn richly or lazily (Chizat et al. 2019).

The output is multiplied by alpha and the step size divided by its square, so that the function learns at
the same speed. The larger alpha, the less the weights need to move: weights, states and tangent kernel
stay as they were.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

POINTS, INPUTS, WIDTH = 40, 20, 64
STEPS, RATE, ENOUGH = 6000, 0.02, 0.01


class TwoLayer(nn.Module):
    """``alpha * second(tanh(first(x)))``, without biases."""

    def __init__(self, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.alpha = alpha
        self.first = nn.Linear(INPUTS, WIDTH, bias=False)
        self.second = nn.Linear(WIDTH, 1, bias=False)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.normal_(generator=generator).div_(layer.in_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``[points, inputs]`` to ``[points, 1]``."""
        out: Tensor = self.alpha * self.second(torch.tanh(self.first(x)))
        return out


@dataclass(frozen=True)
class LazyRun:
    """A network before and after training."""

    inputs: Tensor
    targets: Tensor
    start: TwoLayer
    end: TwoLayer
    loss: float
    """Mean squared error at the end."""


def lazy_run(alpha: float, *, seed: int = 0) -> LazyRun:
    """Full-batch gradient descent on 40 random points with random signs, to a loss of 0.01.

    Args:
        alpha: Output scale: 0.3 is rich, 100 lazy.
        seed: The same weights, points and targets for every alpha.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(POINTS, INPUTS, generator=generator)
    targets = torch.randn(POINTS, 1, generator=generator).sign()
    with torch.random.fork_rng():
        net = TwoLayer(alpha, generator)
    start = deepcopy(net)
    descent = torch.optim.SGD(net.parameters(), lr=RATE / alpha**2)
    loss = torch.tensor(torch.inf)
    for _ in range(STEPS):
        loss = (net(inputs) - targets).square().mean()
        if loss < ENOUGH:
            break
        descent.zero_grad()
        loss.backward()
        descent.step()
    return LazyRun(inputs, targets, start.eval(), net.eval(), loss.item())
