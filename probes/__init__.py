"""Fit a readout on stored rows, beside the controls that say what it means."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.probes.finding import ProbeFinding as ProbeFinding
    from layerscope.probes.fitting import LogisticFit as LogisticFit
    from layerscope.probes.fitting import RidgeFit as RidgeFit
    from layerscope.probes.fitting import fit as fit
    from layerscope.probes.fitting import fit_readout as fit_readout
    from layerscope.probes.probe import probe as probe
    from layerscope.probes.readouts.linear import LinearReadout as LinearReadout

_HOME = {
    "LinearReadout": "layerscope.probes.readouts.linear",
    "LogisticFit": "layerscope.probes.fitting",
    "ProbeFinding": "layerscope.probes.finding",
    "RidgeFit": "layerscope.probes.fitting",
    "fit": "layerscope.probes.fitting",
    "fit_readout": "layerscope.probes.fitting",
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
