"""A corpus: texts that can be read again and again, and are never held all at once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from layerscope.corpus.text import Text

if TYPE_CHECKING:
    from layerscope.corpus.summary import CorpusFinding

NO_TEXT = "is the file empty, or are the texts in another column (text=)?"


@dataclass(frozen=True)
class Survey:
    """What one reading of a corpus found; kept, so it is paid for once."""

    texts: int
    words: int
    empty: int
    """Texts without a visible character; they are left out."""
    word_labels: tuple[str, ...]
    text_labels: tuple[str, ...]
    fingerprint: str


class Corpus:
    """Texts with labels, read anew from their source at each iteration.

    Texts without a visible character are left out and counted in `notes`; ids of the others stay.

    Args:
        name: What reports call it.
        texts: Opens the source from its start; called once per iteration.
        files: What the source reads; a file that changes after it was counted is an error.
        notes: Caveats about the reading.
    """

    def __init__(
        self,
        name: str,
        texts: Callable[[], Iterable[Text]],
        *,
        files: Iterable[Path] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.name = name
        self._texts = texts
        self._files = tuple(files)
        self._notes = tuple(notes)
        self._stamps: list[tuple[int, int]] | None = None

    def __iter__(self) -> Iterator[Text]:
        self._check_unchanged()
        return (text for text in self._texts() if _visible(text))

    def __len__(self) -> int:
        return self.survey.texts

    def __repr__(self) -> str:
        labels = ", ".join(self.labels) or "none"
        words = f", {self.survey.words:,} words" if self.survey.words else ""
        return f"Corpus({self.name!r}, {len(self):,} texts{words}, labels: {labels})"

    def _repr_html_(self) -> str:
        from layerscope.corpus.cards import corpus_card

        return corpus_card(self)

    @cached_property
    def survey(self) -> Survey:
        """Counts, labels and fingerprint, from one reading of the whole source.

        Raises:
            ValueError: there is no text at all, or a label belongs to texts and to words.
        """
        self._stamps = self._stamp()
        found = _survey(self._texts())
        if not found.texts:
            blank = f" ({found.empty:,} texts, all empty)" if found.empty else ""
            raise ValueError(f"{self.name!r} holds no text{blank}; {NO_TEXT}")
        both = set(found.word_labels) & set(found.text_labels)
        if both:
            raise ValueError(
                f"{self.name!r}: {sorted(both)} label both texts and words; rename one of them"
            )
        return found

    @property
    def word_labels(self) -> tuple[str, ...]:
        """Labels of words, ``"word"`` among them; a text may lack some (see `Words.column`)."""
        return self.survey.word_labels

    @property
    def text_labels(self) -> tuple[str, ...]:
        """Labels of whole texts."""
        return self.survey.text_labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label: of words first, then of texts."""
        return self.word_labels + self.text_labels

    @property
    def fingerprint(self) -> str:
        """sha256 over contents, ids, groups and labels in order: 64 hex digits.

        Where the data lie and what they are called does not enter.
        """
        return self.survey.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and other caveats of the reading."""
        empty = self.survey.empty
        left_out = (_left_out(empty),) if empty else ()
        return self._notes + left_out

    def map(self, change: Callable[[Text], Text], *, notes: Iterable[str] = ()) -> Corpus:
        """The corpus of changed texts; `change` is called anew at each reading.

        Args:
            change: From a text to the one in its place, such as `dataclasses.replace` with
                other labels.
            notes: Caveats to add.
        """
        return Corpus(
            self.name,
            lambda: map(change, self._texts()),
            files=self._files,
            notes=(*self._notes, *notes),
        )

    def take(self, count: int) -> Corpus:
        """The first `count` texts, without reading the rest."""
        if count < 1:
            raise ValueError(f"take at least 1 text, not {count}")
        return self._part(f"{self.name}[:{count}]", lambda: islice(self, count))

    def split(self, test: float = 0.3, *, seed: int = 0) -> tuple[Corpus, Corpus]:
        """Two corpora that share no group: for fitting, and with about `test` of the texts.

        Raises:
            ValueError: `test` is not between 0 and 1, or there is only one group.
        """
        held = self._held_groups(test, seed)
        return (
            self._part(f"{self.name} (fit)", lambda: (t for t in self if t.group not in held)),
            self._part(f"{self.name} (test)", lambda: (t for t in self if t.group in held)),
        )

    def finding(self) -> CorpusFinding:
        """Counts of texts, words, groups and label values, as a finding for a report."""
        from layerscope.corpus.summary import summarise

        return summarise(self)

    def _held_groups(self, test: float, seed: int) -> set[str]:
        import numpy as np

        if not 0 < test < 1:
            raise ValueError(
                f"test is the share of texts to hold back, between 0 and 1, not {test}"
            )
        sizes = Counter(text.group for text in self)
        if len(sizes) < 2:
            raise ValueError(
                f"{self.name!r} is one group ({next(iter(sizes))!r}); nothing to split"
            )
        order = np.random.default_rng(seed).permutation(len(sizes))
        groups = [list(sizes)[index] for index in order]
        filled = np.cumsum([sizes[group] for group in groups])
        count = int(np.argmin(np.abs(filled - test * filled[-1]))) + 1
        return set(groups[: min(count, len(groups) - 1)])

    def _part(self, name: str, texts: Callable[[], Iterable[Text]]) -> Corpus:
        return Corpus(name, texts, files=self._files, notes=self._notes)

    def _stamp(self) -> list[tuple[int, int]]:
        stats = [path.stat() for path in self._files]
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]

    def _check_unchanged(self) -> None:
        if self._stamps is not None and self._stamps != self._stamp():
            raise ValueError(
                f"the files of {self.name!r} changed after they were counted; read() them again"
            )


def _visible(text: Text) -> bool:
    return bool(text.content) and not text.content.isspace()


def _survey(texts: Iterable[Text]) -> Survey:
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    word_labels: dict[str, None] = {}
    text_labels: dict[str, None] = {}
    for text in texts:
        if not _visible(text):
            counts["empty"] += 1
            continue
        counts["texts"] += 1
        text_labels.update(dict.fromkeys(text.labels))
        if text.words is not None:
            counts["words"] += len(text.words)
            word_labels.update(dict.fromkeys(text.words.labels))
        digest.update(_canonical(text))
    return Survey(
        counts["texts"],
        counts["words"],
        counts["empty"],
        tuple(word_labels),
        tuple(text_labels),
        digest.hexdigest(),
    )


def _canonical(text: Text) -> bytes:
    """One line per text, equal exactly where the texts are."""
    words = text.words
    spans = None if words is None else (words.start, words.end, dict(words.labels))
    parts = (text.content, text.id, text.group, dict(text.labels), spans)
    return json.dumps(parts, sort_keys=True).encode() + b"\n"


def _left_out(count: int) -> str:
    return "1 empty text was left out" if count == 1 else f"{count:,} empty texts were left out"
