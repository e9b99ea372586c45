"""What the layers of the bundled model look like: clusters, shapes, neurons, heads, and what is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from layerscope.corpus import Corpus
    from layerscope.finding import Finding
    from layerscope.store import Store

ROWS, POINTS = 2000, 100
TEXTS = 200
ERASED: tuple[int | str, ...] = ("embed", 2, 5, 7)


def looks(
    model: nn.Module,
    store: Store,
    twin: Store | None,
    corpus: Corpus,
    *,
    quick: bool = False,
    progress: bool = True,
) -> Iterator[Finding]:
    """Findings about the geometry of the layers, in the order of the report.

    Args:
        model: Usually the bundled one.
        store: Its activations at the words of `corpus`.
        twin: Those of the untrained twin.
        corpus: Sentences with labels.
        quick: Only how alike the layers are.
        progress: Whether to show progress bars.
    """
    from layerscope.analyses import similarity

    if not quick:
        yield from _shapes(store, twin, progress)
    yield similarity(store, max_rows=ROWS, progress=progress)
    if not quick:
        yield from _parts(model, corpus.take(TEXTS), progress)


def _shapes(store: Store, twin: Store | None, progress: bool) -> Iterator[Finding]:
    from layerscope.analyses import word_classes

    shared: dict[str, Any] = {"twin": twin or False, "progress": progress}
    maps = ("pca",)
    yield word_classes(store, label="upos", maps=maps, points=POINTS, max_rows=ROWS, **shared)


def _parts(model: nn.Module, few: Corpus, progress: bool) -> Iterator[Finding]:
    from layerscope.analyses import attention_modes, concept_erasure, sparsity
    from layerscope.demo import load_tokenizer

    shared: dict[str, Any] = {"tokenizer": load_tokenizer(), "progress": progress}
    yield sparsity(model, few, **shared)
    yield attention_modes(model, few, **shared)
    yield concept_erasure(model, few, ERASED, label="Number", methods="leace", **shared)
