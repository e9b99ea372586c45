"""Sparse autoencoders: train them, measure them, read and write them, look at their latents.

``sae = train(store, 3)``; ``evaluate(sae, store)``; ``features(sae, store, model=model)``;
``save(sae, folder)``; ``load(folder)`` for SAEs of most libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

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

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AFA": ".architectures.afa",
        "BatchTopK": ".architectures.batchtopk",
        "Crosscoder": ".architectures.crosscoder",
        "Gated": ".architectures.gated",
        "JumpReLU": ".architectures.jumprelu",
        "Matryoshka": ".architectures.matryoshka",
        "ReLU": ".architectures.relu",
        "ReLUApril": ".architectures.relu",
        "TopK": ".architectures.topk",
        "Transcoder": ".architectures.transcoder",
        "SAE": ".sae",
        "evaluate": ".evaluate",
        "features": ".features",
        "load": ".formats.save_load",
        "save": ".formats.save_load",
        "train": ".train",
        "train_together": ".train",
    },
)
