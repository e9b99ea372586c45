"""Classes from the scores of named directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class ConceptReadout(Readout):
    """``scores = weight @ concept scores + bias``, most of the weights being zero."""

    kind: ClassVar[str] = "concepts"

    directions: Tensor
    """``[concepts, width]`` in the model's own coordinates."""
    mean: Tensor
    """``[width]`` of the training rows."""
    scale: Tensor
    """``[concepts]`` standard deviation of each score over the training rows; 1 where constant."""
    weight: Tensor
    """``[classes, concepts]``"""
    bias: Tensor
    """``[classes]``"""
    concepts: tuple[Any, ...] = ()
    """Names of the directions, where they have any."""
    search: bool = False
    """Concept matrix search: scores are cosines with the rows of `weight`."""
    l1: float = 0.0
    """The penalty it was trained with, in nats per row."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", tuple(self.concepts))

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., classes]`` scores of activations ``[..., width]``, on the device of `x`."""
        scores, weight = self.scores(x), self.weight.to(x.device)
        if self.search:
            return cosines(scores, weight)
        found: Tensor = scores @ weight.T + self.bias.to(x.device)
        return found

    def scores(self, x: Tensor) -> Tensor:
        """``[..., concepts]``: how much of each concept is in these activations, mean 0."""
        self.check(x)
        centred = x.float() - self.mean.to(x.device)
        scores: Tensor = centred @ self.directions.to(x.device).T / self.scale.to(x.device)
        return scores

    @property
    def width(self) -> int:
        return self.directions.shape[1]

    @property
    def used(self) -> list[Any]:
        """Names (or numbers) of the concepts that have a weight."""
        there = (self.weight != 0).any(0).tolist()
        names = self.concepts or tuple(range(len(there)))
        return [name for name, used in zip(names, there, strict=True) if used]


def cosines(x: Tensor, z: Tensor) -> Tensor:
    """``[..., m]`` between ``[..., width]`` and ``[m, width]``; 0 with a vector of zeros."""
    found: Tensor = _unit(x) @ _unit(z).T
    return found


def _unit(x: Tensor) -> Tensor:
    lengths: Tensor = x.norm(dim=-1, keepdim=True)
    return x / lengths.clamp_min(1e-30)
