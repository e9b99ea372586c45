"""Texts and labels: what is read, how words meet tokens, and how groups are split."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.corpus.builtin import bundled as bundled
    from layerscope.corpus.corpus import Corpus as Corpus
    from layerscope.corpus.reading import read as read
    from layerscope.corpus.samples import SampleBatch as SampleBatch
    from layerscope.corpus.samples import Samples as Samples
    from layerscope.corpus.text import Text as Text
    from layerscope.corpus.text import Words as Words

_HOME = {
    "Corpus": "layerscope.corpus.corpus",
    "SampleBatch": "layerscope.corpus.samples",
    "Samples": "layerscope.corpus.samples",
    "Text": "layerscope.corpus.text",
    "Words": "layerscope.corpus.text",
    "bundled": "layerscope.corpus.builtin",
    "read": "layerscope.corpus.reading",
}

__all__ = ["Corpus", "SampleBatch", "Samples", "Text", "Words", "bundled", "read"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'layerscope.corpus' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
