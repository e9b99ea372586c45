"""Erasers: affine maps that take a label out of activations, and how they are fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.probes.erasers.eraser import Eraser as Eraser
    from layerscope.probes.erasers.fitting import fit_eraser as fit_eraser
    from layerscope.probes.erasers.leace import LeaceFit as LeaceFit

__all__ = ["Eraser", "LeaceFit", "fit_eraser"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Eraser": ".eraser",
        "LeaceFit": ".leace",
        "fit_eraser": ".fitting",
    },
)
