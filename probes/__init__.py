"""Fit a readout on stored rows, beside the controls that say what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.probes.finding import ProbeFinding as ProbeFinding
    from layerscope.probes.fitting import LogisticFit as LogisticFit
    from layerscope.probes.fitting import RidgeFit as RidgeFit
    from layerscope.probes.fitting import fit as fit
    from layerscope.probes.fitting import fit_readout as fit_readout
    from layerscope.probes.probe import probe as probe
    from layerscope.probes.readouts.linear import LinearReadout as LinearReadout

__all__ = [  # noqa: RUF022  (the order of use)
    "probe",
    "ProbeFinding",
    "fit",
    "fit_readout",
    "LinearReadout",
    "LogisticFit",
    "RidgeFit",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "LinearReadout": ".readouts.linear",
        "LogisticFit": ".fitting",
        "ProbeFinding": ".finding",
        "RidgeFit": ".fitting",
        "fit": ".fitting",
        "fit_readout": ".fitting",
        "probe": ".probe",
    },
)
