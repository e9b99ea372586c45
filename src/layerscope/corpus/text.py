"""One text, and the labelled words inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any

Value = str | int | float | bool | None
"""What a label may be; None where a text or a word has no such label."""


@dataclass(frozen=True)
class Words:
    """Labelled spans of one text, in the order of their starts.

    Spans may overlap (the two words inside French *du* share its two characters), but each
    covers at least one character.

    Raises:
        ValueError: columns of different lengths, a span without characters, or spans out of order.
    """

    start: tuple[int, ...]
    """First character of each word."""
    end: tuple[int, ...]
    """One past the last character of each word."""
    labels: Mapping[str, tuple[Value, ...]]
    """One value per word under each name; ``"word"`` holds the form."""

    def __post_init__(self) -> None:
        for name, column in {"end": self.end, **self.labels}.items():
            if len(column) != len(self.start):
                raise ValueError(
                    f"{len(self.start)} words, but {len(column)} values under {name!r}"
                )
        last = 0
        for start, end in zip(self.start, self.end, strict=True):
            if start < last:
                raise ValueError(f"the word at {start} comes after one at {last}: sort the words")
            if end <= start:
                raise ValueError(f"a word from {start} to {end} covers no characters")
            last = start

    def __len__(self) -> int:
        return len(self.start)

    def column(self, name: str) -> tuple[Value, ...]:
        """The label of every word: None throughout where this text does not have that label."""
        return self.labels.get(name) or (None,) * len(self)


@dataclass(frozen=True)
class Text:
    """One text of a corpus.

    Raises:
        ValueError: a word ends beyond the text.
    """

    content: str
    id: str
    """Names this text within its corpus."""
    group: str
    """What must not straddle a split: a document, a speaker; by default the text itself."""
    labels: Mapping[str, Value] = field(default_factory=dict)
    """Labels of the whole text."""
    words: Words | None = None
    """Labelled words; None where there are only labels of the whole text."""

    def __post_init__(self) -> None:
        if self.words and max(self.words.end) > len(self.content):
            raise ValueError(
                f"text {self.id!r} has {len(self.content)} characters, "
                f"but one of its words ends at {max(self.words.end)}"
            )


def is_value(value: Any) -> bool:
    """Whether `as_value` takes it: one plain value rather than a list, a mapping or bytes."""
    plain = (str, int, float, Decimal, date, time)
    return value is None or isinstance(value, plain) or _is_scalar_array(value)


def as_value(value: Any) -> Value:
    """The value as a label: NaN is None, a date its ISO form, a numpy scalar a Python one.

    Raises:
        ValueError: it is a list, a mapping or another object.
    """
    if _is_scalar_array(value):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise ValueError(f"{value!r} cannot be a label; a label is a text, a number, or true or false")


def _is_scalar_array(value: Any) -> bool:
    return getattr(value, "shape", None) == () and hasattr(value, "item")
