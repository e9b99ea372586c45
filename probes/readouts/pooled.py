"""A pooling of the tokens of a text and the linear readout of what it gives, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.probes.readouts.linear import LinearReadout


@dataclass(frozen=True, kw_only=True)
class PooledReadout(LinearReadout):
    """A linear readout of one vector per text."""

    kind: ClassVar[str] = "pooled"

    pooling: str
    """``"last"``, ``"mean"``, ``"max"``, ``"first"``, or ``"tail"``: mean of the last `tail`."""
    tail: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of the tokens ``[..., tokens, width]`` of one text, or of several
        of one length."""
        self.check(x)
        if x.ndim < 2 or not x.shape[-2]:
            raise ValueError(
                f"give the tokens of a text, [..., tokens, width]; got {list(x.shape)}"
            )
        return super().__call__(self.pool(x.float()))

    def pool(self, x: Tensor) -> Tensor:
        """``[..., width]`` of tokens ``[..., tokens, width]``."""
        if self.pooling == "last":
            return x[..., -1, :]
        if self.pooling == "first":
            return x[..., 0, :]
        if self.pooling == "max":
            return x.amax(-2)
        return x[..., -self.tail :, :].mean(-2) if self.pooling == "tail" else x.mean(-2)
