"""All instruments, in the order in which they are shown."""

from __future__ import annotations

from layerscope.calibration.instrument import FAMILIES, Instrument
from layerscope.calibration.instruments import (
    activity,
    architectures,
    circuits,
    clustering,
    dictionaries,
    erasing,
    information,
    layers,
    mistakes,
    probing,
    readouts,
    running,
    shaped_probes,
    shapes,
    structures,
    training,
)

_MODULES = (
    running,
    probing,
    shaped_probes,
    structures,
    erasing,
    mistakes,
    information,
    clustering,
    shapes,
    activity,
    layers,
    readouts,
    circuits,
    architectures,
    dictionaries,
    training,
)

CATALOGUE: tuple[Instrument, ...] = tuple(
    instrument
    for family in FAMILIES
    for module in _MODULES
    for instrument in module.INSTRUMENTS
    if instrument.family == family
)
"""Grouped by family; within one, in the order of the modules."""
