"""A tensor inside a running model, and how a site shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def as_is(tensor: Tensor) -> Tensor:
    """The layout of most sites: that of the model."""
    return tensor


@dataclass(frozen=True, eq=False)
class Live:
    """A tensor on its way through the model. Its gradient is asked for here, not at a view."""

    tensor: Tensor
    layout: Callable[[Tensor], Tensor] = as_is
    """From the model's layout to the site's; also right for gradients."""

    @property
    def value(self) -> Tensor:
        """The tensor in the site's layout: itself, or a view of it."""
        return self.layout(self.tensor)
