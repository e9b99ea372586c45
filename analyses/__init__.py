"""One question per file; each is a function of the file's name, and returns a finding."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.analyses.back_patching import back_patching as back_patching
    from layerscope.analyses.depth_use import depth_use as depth_use
    from layerscope.analyses.layer_programs import layer_programs as layer_programs
    from layerscope.analyses.layer_similarity import layer_similarity as layer_similarity
    from layerscope.analyses.layer_skip import layer_skip as layer_skip
    from layerscope.analyses.lens import lens as lens
    from layerscope.analyses.patching import patching as patching

__all__ = [
    "back_patching",
    "depth_use",
    "layer_programs",
    "layer_similarity",
    "layer_skip",
    "lens",
    "patching",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'layerscope.analyses' has no attribute {name!r}")
    return getattr(import_module(f"layerscope.analyses.{name}"), name)


def __dir__() -> list[str]:
    return __all__


class _Analyses(ModuleType):
    """Importing a submodule binds it on its package, where users look for the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Analyses
