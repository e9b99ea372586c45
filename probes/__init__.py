"""Fit a readout on stored rows, beside the controls that say what it means."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.probes.finding import ProbeFinding as ProbeFinding
    from layerscope.probes.linear import LogisticFit as LogisticFit
    from layerscope.probes.linear import RidgeFit as RidgeFit
    from layerscope.probes.linear import fit as fit
    from layerscope.probes.linear import fit_readout as fit_readout
    from layerscope.probes.probe import probe as probe
    from layerscope.probes.readout import LinearReadout as LinearReadout

_HOME = {
    "LinearReadout": "layerscope.probes.readout",
    "LogisticFit": "layerscope.probes.linear",
    "ProbeFinding": "layerscope.probes.finding",
    "RidgeFit": "layerscope.probes.linear",
    "fit": "layerscope.probes.linear",
    "fit_readout": "layerscope.probes.linear",
    "probe": "layerscope.probes.probe",
}

__all__ = [  # noqa: RUF022  (the order of use)
    "probe",
    "ProbeFinding",
    "fit",
    "fit_readout",
    "LinearReadout",
    "LogisticFit",
    "RidgeFit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'layerscope.probes' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
