"""A network of one hidden layer on activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class MLPReadout(Readout):
    """``scores = weight @ relu(hidden @ ((x - mean) / scale) + hidden_bias) + bias``."""

    kind: ClassVar[str] = "mlp"

    hidden: Tensor
    """``[units, width]`` on standardised features."""
    hidden_bias: Tensor
    """``[units]``"""
    weight: Tensor
    """``[outputs, units]``; one output per class, or one number."""
    bias: Tensor
    """``[outputs]``"""
    mean: Tensor
    """``[width]`` of the training rows."""
    scale: Tensor
    """``[width]`` standard deviation of the training rows; 1 where a feature is constant."""

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of activations ``[..., width]``, on the device of `x`."""
        self.check(x)
        z = (x.float() - self.mean.to(x.device)) / self.scale.to(x.device)
        units = (z @ self.hidden.to(x.device).T + self.hidden_bias.to(x.device)).relu()
        scores: Tensor = units @ self.weight.to(x.device).T + self.bias.to(x.device)
        return scores

    @property
    def width(self) -> int:
        return self.hidden.shape[1]
