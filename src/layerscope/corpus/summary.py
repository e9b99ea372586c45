"""What a corpus holds, as a finding: how many texts, and which values each label has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from layerscope.corpus.text import Value, as_value
from layerscope.finding import Finding, Provenance

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from layerscope.corpus.corpus import Corpus
    from layerscope.corpus.samples import Samples

MOST_VALUES = 20
"""Values of a label that get a line of their own; the rest share one."""
BINS = 10
NONE = "(none)"
OTHERS = " other values)"

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
        sizes = [_many(count, unit) for unit, count in self.provenance.parameters.items()]
        said = f"{self.provenance.data}: {', '.join(sizes[:-1])} in {sizes[-1]}."
        names = list(dict.fromkeys(self.table["label"]))
        if not names:
            return f"{said} There are no labels."
        shown = f"{', '.join(names[:8])}{' and others' if len(names) > 8 else ''}"
        many = set(self.table.loc[self.table["value"].str.endswith(OTHERS), "label"])
        lines = self.table[(self.table["value"] != NONE) & ~self.table["label"].isin(many)]
        top = "".join(
            f" Most common {line.label}: {line.value} ({line.share:.1%})."
            for line in lines.head(1).itertuples()
        )
        return f"{said} {_many(len(names), 'label')}: {shown}.{top}"

    def figure(self) -> go.Figure:
        """One bar per label, cut into its values by share."""
        import plotly.graph_objects as go

        from layerscope.theme import COLORS, faded, plain

        table = self.table.assign(rank=self.table.groupby("label", sort=False).cumcount())
        figure = go.Figure()
        for rank, part in table.groupby("rank"):
            shade = faded(COLORS["value"], max(0.25, 0.95 - 0.12 * int(str(rank))))
            nothing = faded(COLORS["other"], 0.15)
            figure.add_bar(
                orientation="h",
                y=part["label"].map(plain),
                x=part["share"],
                text=part["value"].where(part["share"] >= 0.05, "").map(plain),
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                customdata=list(zip(part["value"].map(plain), part["count"], strict=True)),
                hovertemplate="%{y}: %{customdata[0]}<br>%{x:.1%}, %{customdata[1]:,}"
                "<extra></extra>",
                marker={"color": [nothing if v == NONE else shade for v in part["value"]]},
                showlegend=False,
            )
        return figure.update_layout(
            barmode="stack",
            bargap=0.25,
            height=110 + 34 * max(table["label"].nunique(), 1),
            xaxis={"title": {"text": "share"}, "tickformat": ".0%", "range": [0, 1]},
            yaxis={"autorange": "reversed"},
        )


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
    lines = [*_lines(words, "word", sizes["word"]), *_lines(texts, "text", sizes["text"])]
    return _finding(corpus.name, kept, lines, corpus.notes)


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
    lines = [
        line
        for name, counter in counts.items()
        for line in _lines({name: counter}, "sample", counter.total())
    ]
    return _finding(samples.name, sizes, lines, samples.notes)


def _finding(
    name: str, sizes: Mapping[str, int], lines: list[dict[str, Any]], notes: tuple[str, ...]
) -> CorpusFinding:
    import pandas as pd

    columns = ["label", "unit", "value", "count", "share"]
    return CorpusFinding(
        table=pd.DataFrame(lines, columns=columns),
        provenance=Provenance(data=name, parameters=dict(sizes)),
        notes=notes,
    )


def _lines(counts: Counts, unit: str, total: int) -> list[dict[str, Any]]:
    return [
        {"label": label, "unit": unit, "value": value, "count": count, "share": count / total}
        for label, counter in counts.items()
        for value, count in _shown(counter)
    ]


def _shown(counter: Counter[Value]) -> list[tuple[str, int]]:
    """(value in words, count) lines of one label."""
    missing = [(NONE, counter[None])] if counter[None] else []
    given: Counter[Value] = Counter(counter)
    del given[None]
    if len(given) <= MOST_VALUES:
        return [(str(value), count) for value, count in given.most_common()] + missing
    if all(isinstance(value, (int, float)) for value in given):
        return _binned(given) + missing
    common = given.most_common(MOST_VALUES)
    rest = given.total() - sum(count for _, count in common)
    other = (f"({len(given) - MOST_VALUES:,}{OTHERS}", rest)
    return [(str(value), count) for value, count in common] + [other] + missing


def _binned(given: Counter[Value]) -> list[tuple[str, int]]:
    values = np.array(list(given), dtype=float)
    counts, edges = np.histogram(values, BINS, weights=list(given.values()))
    return [
        (f"{low:.4g} to {high:.4g}", int(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
