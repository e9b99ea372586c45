"""Texts and labels: what is read, how words meet tokens, and how groups are split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.corpus.builtin import bundled as bundled
    from layerscope.corpus.corpus import Corpus as Corpus
    from layerscope.corpus.reading import read as read
    from layerscope.corpus.samples import SampleBatch as SampleBatch
    from layerscope.corpus.samples import Samples as Samples
    from layerscope.corpus.text import Text as Text
    from layerscope.corpus.text import Words as Words

__all__ = ["Corpus", "SampleBatch", "Samples", "Text", "Words", "bundled", "read"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Corpus": ".corpus",
        "SampleBatch": ".samples",
        "Samples": ".samples",
        "Text": ".text",
        "Words": ".text",
        "bundled": ".builtin",
        "read": ".reading",
    },
)
