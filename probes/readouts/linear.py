"""A linear map to scores: logistic and ridge regression, mass-mean, LDA and their like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class LinearReadout(Readout):
    """A trained linear probe: ``scores = weight @ ((x - mean) / scale) + bias``."""

    kind: ClassVar[str] = "linear"

    weight: Tensor
    """``[outputs, width]`` on standardised features; one output per class, or one number."""
    bias: Tensor
    """``[outputs]``"""
    mean: Tensor
    """``[width]`` of the training rows."""
    scale: Tensor
    """``[width]`` standard deviation of the training rows; 1 where a feature is constant."""
    l2: float = 0.0
    """The penalty it was trained with."""

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of activations ``[..., width]``, on the device of `x`."""
        self.check(x)
        weight, bias, mean, scale = (
            part.to(x.device) for part in (self.weight, self.bias, self.mean, self.scale)
        )
        scores: Tensor = (x.float() - mean) / scale @ weight.T + bias
        return scores

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    @property
    def directions(self) -> Tensor:
        """``[outputs, width]`` in the model's own coordinates: what raises each score fastest."""
        return self.weight / self.scale

    def probabilities(self, x: Tensor) -> Tensor:
        """``[..., classes]``, rows sum to 1."""
        if not self.classes:
            raise ValueError(
                f"a readout of the number {self.label!r} has no probabilities; predict(x) gives the "
                "number"
            )
        return self(x).softmax(-1)
