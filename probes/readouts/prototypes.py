"""Classes from squared distances to a few real rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class PrototypeReadout(Readout):
    """``scores = weight @ squared distances to the prototypes + bias``."""

    kind: ClassVar[str] = "prototypes"

    prototypes: Tensor
    """``[prototypes, width]`` standardised activations of the rows that stand for the others."""
    weight: Tensor
    """``[classes, prototypes]``; negative where being near speaks for the class."""
    bias: Tensor
    """``[classes]``"""
    mean: Tensor
    """``[width]`` of the training rows."""
    scale: Tensor
    """``[width]`` standard deviation of the training rows; 1 where a feature is constant."""
    rows: tuple[int, ...] = ()
    """Where each prototype is in the store; in what was given to `fit`, where there is none."""
    own: tuple[int, ...] = ()
    """Class number of each prototype."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "own", tuple(self.own))

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., classes]`` scores of activations ``[..., width]``, on the device of `x`."""
        scores: Tensor = self.distances(x) @ self.weight.to(x.device).T + self.bias.to(x.device)
        return scores

    def distances(self, x: Tensor) -> Tensor:
        """``[..., prototypes]`` squared distances, in standardised features."""
        self.check(x)
        z = (x.float() - self.mean.to(x.device)) / self.scale.to(x.device)
        return squared_distances(z, self.prototypes.to(x.device))

    @property
    def width(self) -> int:
        return self.prototypes.shape[1]


def squared_distances(x: Tensor, z: Tensor) -> Tensor:
    """``[..., m]`` from ``[..., width]`` to ``[m, width]``; never below 0."""
    norms = x.square().sum(-1, keepdim=True) + z.square().sum(-1)
    return (norms - 2 * x @ z.T).clamp_min(0)
