"""What-ifs on the bundled model: its layers read aloud, left out, and put in another order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from layerscope.corpus import Corpus
    from layerscope.demo.world import Question
    from layerscope.finding import Finding

TEXTS, QUICK_TEXTS = 200, 60
TRACED = 8
SEARCHED = 24


def what_ifs(
    model: nn.Module, corpus: Corpus, *, quick: bool = False, progress: bool = True
) -> Iterator[Finding]:
    """Findings about the layers themselves, in the order of the report.

    Args:
        model: Usually the bundled one.
        corpus: Sentences to run over.
        quick: Only the lens and what skipping a block does, on fewer sentences.
        progress: Whether to show progress bars.
    """
    from layerscope.analyses import layer_skip, lens, lens_tokens
    from layerscope.demo import load_tokenizer

    shared: dict[str, Any] = {"tokenizer": load_tokenizer(), "progress": progress}
    few = corpus.take(QUICK_TEXTS if quick else TEXTS)
    yield lens_tokens(model, _chain().prompt, **shared)
    if not quick:
        yield lens(model, few, **shared)
        yield from _layers(model, few, shared)
    yield layer_skip(model, few, twin=not quick, **shared)
    if not quick:
        yield from _facts(model, shared)


def _layers(model: nn.Module, corpus: Corpus, shared: dict[str, Any]) -> Iterator[Finding]:
    from layerscope.analyses import depth_use, layer_similarity

    yield depth_use(model, corpus, **shared)
    yield layer_similarity(model, corpus, **shared)


def _facts(model: nn.Module, shared: dict[str, Any]) -> Iterator[Finding]:
    """Where a chain of two facts is held, and whether other orders of the blocks know more."""
    from layerscope.analyses import causal_tracing, layer_programs

    asked = list(islice(_chains(seen=True), TRACED))
    prompts, answers = [q.prompt for q in asked], [q.answer for q in asked]
    yield causal_tracing(model, prompts, answers, [q.start for q in asked], **shared)
    asked = list(islice(_chains(seen=False), SEARCHED))
    yield layer_programs(model, [q.prompt for q in asked], [q.answer for q in asked], **shared)


def _chain() -> Question:
    """A chain that the model was never shown."""
    return next(_chains(seen=False))


def _chains(*, seen: bool) -> Iterator[Question]:
    """Two-hop questions, from all over the world."""
    from layerscope.demo import questions

    found = [q for q in questions() if q.hops == 2 and q.seen == seen]
    return iter(found[:: max(1, len(found) // 40)])
