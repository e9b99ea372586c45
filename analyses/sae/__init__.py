"""Sparse autoencoders: train them, measure them, read and write them, look at their latents.

``sae = train(store, 3)``; ``evaluate(sae, store)``; ``features(sae, store, model=model)``;
``save(sae, folder)``; ``load(folder)`` for SAEs of most libraries.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.analyses.sae.architectures.afa import AFA as AFA
    from layerscope.analyses.sae.architectures.batchtopk import BatchTopK as BatchTopK
    from layerscope.analyses.sae.architectures.crosscoder import Crosscoder as Crosscoder
    from layerscope.analyses.sae.architectures.gated import Gated as Gated
    from layerscope.analyses.sae.architectures.jumprelu import JumpReLU as JumpReLU
    from layerscope.analyses.sae.architectures.matryoshka import Matryoshka as Matryoshka
    from layerscope.analyses.sae.architectures.relu import ReLU as ReLU
    from layerscope.analyses.sae.architectures.relu import ReLUApril as ReLUApril
    from layerscope.analyses.sae.architectures.topk import TopK as TopK
    from layerscope.analyses.sae.architectures.transcoder import Transcoder as Transcoder
    from layerscope.analyses.sae.evaluate import evaluate as evaluate
    from layerscope.analyses.sae.features import features as features
    from layerscope.analyses.sae.formats.save_load import load as load
    from layerscope.analyses.sae.formats.save_load import save as save
    from layerscope.analyses.sae.sae import SAE as SAE
    from layerscope.analyses.sae.train import train as train
    from layerscope.analyses.sae.train import train_together as train_together

_PACKAGE = "layerscope.analyses.sae"
_HOME = {
    "AFA": f"{_PACKAGE}.architectures.afa",
    "BatchTopK": f"{_PACKAGE}.architectures.batchtopk",
    "Crosscoder": f"{_PACKAGE}.architectures.crosscoder",
    "Gated": f"{_PACKAGE}.architectures.gated",
    "JumpReLU": f"{_PACKAGE}.architectures.jumprelu",
    "Matryoshka": f"{_PACKAGE}.architectures.matryoshka",
    "ReLU": f"{_PACKAGE}.architectures.relu",
    "ReLUApril": f"{_PACKAGE}.architectures.relu",
    "TopK": f"{_PACKAGE}.architectures.topk",
    "Transcoder": f"{_PACKAGE}.architectures.transcoder",
    "SAE": f"{_PACKAGE}.sae",
    "evaluate": f"{_PACKAGE}.evaluate",
    "features": f"{_PACKAGE}.features",
    "load": f"{_PACKAGE}.formats.save_load",
    "save": f"{_PACKAGE}.formats.save_load",
    "train": f"{_PACKAGE}.train",
    "train_together": f"{_PACKAGE}.train",
}

__all__ = [
    "AFA",
    "SAE",
    "BatchTopK",
    "Crosscoder",
    "Gated",
    "JumpReLU",
    "Matryoshka",
    "ReLU",
    "ReLUApril",
    "TopK",
    "Transcoder",
    "evaluate",
    "features",
    "load",
    "save",
    "train",
    "train_together",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Functions(ModuleType):
    """Importing a submodule binds it on its package, where users look for the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Functions
