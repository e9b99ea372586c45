"""The toy model of superposition: five sparse features in two dimensions become a pentagon."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.planted.sparse_features import SparseFeatures


@dataclass(frozen=True, eq=False)
class Superposition:
    """A trained toy model, ``x_hat = ReLU(x W W^T + b)`` (Elhage et al. 2022, arXiv 2209.10652)."""

    directions: Tensor
    """W, ``[features, width]``: what each feature writes, of whatever length it learned."""
    bias: Tensor
    """``[features]``"""
    probability: float
    """Of each feature."""
    loss: float
    """Mean squared error of the last batch, per feature."""

    @property
    def gaps(self) -> Tensor:
        """Degrees ``[features]`` between neighbouring directions, which are two-dimensional.

        Raises:
            ValueError: the model has another width than 2.
        """
        if self.directions.shape[1] != 2:
            raise ValueError(f"angles need width 2, this model has {self.directions.shape[1]}")
        angles = torch.atan2(self.directions[:, 1], self.directions[:, 0]).rad2deg().sort().values
        return torch.cat([angles[1:], angles[:1] + 360]) - angles

    def hidden(self, rows: int, *, seed: int = 0) -> SparseFeatures:
        """Hidden states ``x W`` of fresh inputs, with the inputs as amplitudes."""
        generator = torch.Generator().manual_seed(seed)
        features = len(self.directions)
        x = _inputs((rows, features), self.probability, generator)
        p = torch.full((features,), self.probability)
        return SparseFeatures(x @ self.directions, self.directions, x, p)


def superposition(
    features: int = 5,
    width: int = 2,
    *,
    probability: float = 0.05,
    steps: int = 4000,
    batch: int = 1024,
    rate: float = 1e-2,
    seed: int = 0,
) -> Superposition:
    """Train the toy model with Adam on features uniform in 0 to 1, all equally important.

    With the defaults the five directions come to stand 72 degrees apart with a length of about
    1.13; two seconds on one core.
    """
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(features, width, generator=generator) * (2 / (features + width)) ** 0.5
    bias = torch.zeros(features)
    matrix.requires_grad_()
    bias.requires_grad_()
    optimiser = torch.optim.Adam([matrix, bias], lr=rate)
    loss = torch.tensor(torch.nan)
    for _ in range(steps):
        x = _inputs((batch, features), probability, generator)
        loss = (torch.relu(x @ matrix @ matrix.T + bias) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return Superposition(matrix.detach(), bias.detach(), probability, float(loss.detach()))


def _inputs(shape: tuple[int, int], probability: float, generator: torch.Generator) -> Tensor:
    fires = torch.rand(shape, generator=generator) < probability
    return torch.rand(shape, generator=generator) * fires
