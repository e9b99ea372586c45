"""Erasers: affine maps that take a label out of activations, and how they are fitted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.probes.erasers.eraser import Eraser as Eraser
    from layerscope.probes.erasers.fitting import fit_eraser as fit_eraser
    from layerscope.probes.erasers.leace import LeaceFit as LeaceFit

_HOME = {
    "Eraser": "layerscope.probes.erasers.eraser",
    "LeaceFit": "layerscope.probes.erasers.leace",
    "fit_eraser": "layerscope.probes.erasers.fitting",
}

__all__ = ["Eraser", "LeaceFit", "fit_eraser"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'layerscope.probes.erasers' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
