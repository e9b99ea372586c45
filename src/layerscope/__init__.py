"""Capture once, ask everything: what the hidden layers of a network know, and where."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from layerscope.lazy import no_attribute

if TYPE_CHECKING:
    from layerscope import analyses as analyses
    from layerscope.calibration import calibrate as calibrate
    from layerscope.corpus import Corpus as Corpus
    from layerscope.corpus import Samples as Samples
    from layerscope.corpus import read as read
    from layerscope.finding import Finding as Finding
    from layerscope.hooks import edits as edits
    from layerscope.hooks.anatomy import Anatomy as Anatomy
    from layerscope.hooks.anatomy import anatomy as anatomy
    from layerscope.hooks.capture import capture as capture
    from layerscope.hooks.edits import edit as edit
    from layerscope.hooks.extract import extract as extract
    from layerscope.hooks.load import load_model as load_model
    from layerscope.hooks.replay import record as record
    from layerscope.probes.probe import probe as probe
    from layerscope.report import report as report
    from layerscope.store import Store as Store

# Where each public name lives; it is imported when first used, so the door stays light.
_HOME = {
    "Anatomy": "layerscope.hooks.anatomy",
    "Corpus": "layerscope.corpus",
    "Finding": "layerscope.finding",
    "Samples": "layerscope.corpus",
    "Store": "layerscope.store",
    "anatomy": "layerscope.hooks.anatomy",
    "calibrate": "layerscope.calibration",
    "capture": "layerscope.hooks.capture",
    "edit": "layerscope.hooks.edits",
    "extract": "layerscope.hooks.extract",
    "load_model": "layerscope.hooks.load",
    "probe": "layerscope.probes.probe",
    "read": "layerscope.corpus",
    "record": "layerscope.hooks.replay",
    "report": "layerscope.report",
}

# Public modules, by the names that users give them.
_ROOMS = {"analyses": "layerscope.analyses", "edits": "layerscope.hooks.edits"}

__all__ = [  # noqa: RUF022  (the order of use)
    "anatomy",
    "capture",
    "read",
    "extract",
    "probe",
    "edit",
    "edits",
    "record",
    "analyses",
    "report",
    "calibrate",
    "load_model",
    "Anatomy",
    "Corpus",
    "Samples",
    "Store",
    "Finding",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("layerscope")
    if name in _ROOMS:
        return import_module(_ROOMS[name])
    if name not in _HOME:
        inside = dir(import_module(_ROOMS["analyses"]))
        raise no_attribute("layerscope", name, [*(f"analyses.{one}" for one in inside), *__all__])
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
