"""A weighted mean of layers and the linear head on it, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class LayerMixReadout(Readout):
    """``scores = head @ sum_l weights_l (x_l - mean_l) / scale_l + bias``."""

    kind: ClassVar[str] = "layer_mix"

    weights: Tensor
    """``[layers]`` that add up to 1."""
    mean: Tensor
    """``[layers, width]``"""
    scale: Tensor
    """``[layers, width]``; 1 where a feature is constant."""
    head: Tensor
    """``[outputs, width]``"""
    bias: Tensor
    """``[outputs]``"""
    sites: tuple[str, ...] = ()
    """The layers, in order."""
    l2: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", tuple(self.sites))

    @property
    def width(self) -> int:
        return self.mean.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of activations ``[..., layers, width]``."""
        self.check(x)
        if x.ndim < 2 or x.shape[-2] != len(self.weights):
            raise ValueError(
                f"this readout was trained on {len(self.weights)} layers, got {list(x.shape)}; "
                "give [..., layers, width]"
            )
        weights, mean, scale, head, bias = (
            part.to(x.device)
            for part in (self.weights, self.mean, self.scale, self.head, self.bias)
        )
        mixed = (((x.float() - mean) / scale) * weights[:, None]).sum(-2)
        scores: Tensor = mixed @ head.T + bias
        return scores
