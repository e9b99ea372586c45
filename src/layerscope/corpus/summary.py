"""What a corpus holds, as a finding: how many texts, and which values each label has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from layerscope.corpus.text import Value, as_value
from layerscope.distribution import bars, leading, lines, many
from layerscope.finding import Finding, Provenance

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from layerscope.corpus.corpus import Corpus
    from layerscope.corpus.samples import Samples

Counts = dict[str, Counter[Value]]


@dataclass(frozen=True)
class CorpusFinding(Finding):
    """How many texts, words and groups there are, and how often each label has each value.

    The table has one line per label and value, the most frequent first: ``label``, ``unit``
    (word, text or sample), ``value``, ``count``, ``share`` (of all of that unit). Values beyond
    the twentieth are one line, numbers with many values are binned, and what has no value is
    counted as ``(none)``.
    """

    question: ClassVar[str] = "What is in the data?"

    def answer(self) -> str:
        """The sizes, and the most frequent value of the first label that has few."""
        sizes = [many(count, unit) for unit, count in self.provenance.parameters.items()]
        said = f"{self.provenance.data}: {', '.join(sizes[:-1])} in {sizes[-1]}."
        names = list(dict.fromkeys(self.table["label"]))
        if not names:
            return f"{said} There are no labels."
        shown = f"{', '.join(names[:8])}{' and others' if len(names) > 8 else ''}"
        return f"{said} {many(len(names), 'label')}: {shown}.{leading(self.table)}"

    def gist(self) -> str:
        """In one sentence."""
        sizes = [many(count, unit) for unit, count in self.provenance.parameters.items()]
        labels = self.table["label"].nunique()
        carried = f"carry {many(labels, 'label')}" if labels else "carry no labels"
        return f"The data, {', '.join(sizes[:-1])} in {sizes[-1]}, {carried}."

    def figure(self) -> go.Figure:
        """One bar per label, cut into its values by share."""
        return bars(self.table)


def summarise(corpus: Corpus) -> CorpusFinding:
    """The finding that `Corpus.finding` returns."""
    words: Counts = {name: Counter() for name in corpus.word_labels}
    texts: Counts = {name: Counter() for name in corpus.text_labels}
    groups = set()
    for text in corpus:
        groups.add(text.group)
        for name, counter in texts.items():
            counter[text.labels.get(name)] += 1
        for name, counter in words.items():
            counter.update(text.words.column(name) if text.words else ())
    sizes = {"text": len(corpus), "word": corpus.survey.words, "group": len(groups)}
    kept = {name: count for name, count in sizes.items() if count}
    found = [*_lines(words, "word", sizes["word"]), *_lines(texts, "text", sizes["text"])]
    return _finding(corpus.name, kept, found, corpus.notes)


def summarise_samples(samples: Samples) -> CorpusFinding:
    """The finding that `Samples.finding` returns; labels per position count positions."""
    counts: Counts = {}
    for batch in samples.batches(1024):
        for name, column in batch.labels.items():
            real = (
                column
                if column.ndim == 1 or batch.mask is None
                else column[batch.mask.cpu().numpy()]
            )
            values = (as_value(value) for value in np.asarray(real).ravel().tolist())
            counts.setdefault(name, Counter()).update(values)
    sizes = {"sample": len(samples), "group": len(np.unique(samples.groups))}
    found = [
        line
        for name, counter in counts.items()
        for line in _lines({name: counter}, "sample", counter.total())
    ]
    return _finding(samples.name, sizes, found, samples.notes)


def _finding(
    name: str, sizes: Mapping[str, int], found: list[dict[str, Any]], notes: tuple[str, ...]
) -> CorpusFinding:
    import pandas as pd

    columns = ["label", "unit", "value", "count", "share"]
    return CorpusFinding(
        table=pd.DataFrame(found, columns=columns),
        provenance=Provenance(data=name, parameters=dict(sizes)),
        notes=notes,
    )


def _lines(counts: Counts, unit: str, total: int) -> list[dict[str, Any]]:
    return [line | {"unit": unit} for line in lines(counts, total)]
