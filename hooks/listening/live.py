"""A tensor inside a running model, how a site shows it, and what to know about it."""

from __future__ import annotations

import warnings
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
    restore: Callable[[Tensor], Tensor] = as_is
    """From the site's layout back to the model's."""

    @property
    def value(self) -> Tensor:
        """The tensor in the site's layout: itself, or a view of it."""
        return self.layout(self.tensor)


class Notes:
    """What the user should know about the numbers, said once each."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str, *, warn: bool = False) -> None:
        """Remember `text`; with `warn`, also say it now."""
        if text not in self.texts:
            self.texts.append(text)
            if warn:
                warnings.warn(text, stacklevel=2)
