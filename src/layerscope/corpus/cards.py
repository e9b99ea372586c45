"""Data in a notebook: what there is, its first texts, and what to do with it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from layerscope.distribution import many
from layerscope.notebook import card, cared, listing

if TYPE_CHECKING:
    from layerscope.corpus.corpus import Corpus
    from layerscope.corpus.samples import Samples

SHOWN = 3
LETTERS = 90


def corpus_card(corpus: Corpus) -> str:
    """Counts, labels and the first texts."""
    survey = corpus.survey
    texts = [(text.id, _short(text.content)) for text in islice(corpus, SHOWN)]
    return card(
        "Corpus",
        corpus.name,
        [
            many(survey.texts, "text"),
            many(survey.words, "labelled word") if survey.words else "",
            f"labels of words: {', '.join(corpus.word_labels)}" if corpus.word_labels else "",
            f"labels of texts: {', '.join(corpus.text_labels)}" if corpus.text_labels else "",
        ],
        listing(("id", "begins"), texts) + cared(corpus.notes),
        after='extract(model, corpus, "all"), or corpus.finding() for what the labels are',
    )


def samples_card(samples: Samples) -> str:
    """Counts, inputs and labels."""
    first = next(samples.batches(1))
    inputs = {**{f"argument {i}": x for i, x in enumerate(first.args)}, **first.kwargs}
    lines = [
        (name, str(list(x.shape[1:])), str(x.dtype).removeprefix("torch."))
        for name, x in inputs.items()
    ]
    return card(
        "Samples",
        samples.name,
        [many(len(samples), "sample"), f"labels: {', '.join(first.labels) or 'none'}"],
        listing(("input", "shape of one", "dtype"), lines) + cared(samples.notes),
        after='extract(model, samples, "all")',
    )


def _short(content: str) -> str:
    flat = " ".join(content.split())
    return flat if len(flat) <= LETTERS else f"{flat[:LETTERS]}…"
