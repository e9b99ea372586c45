"""From records (one mapping per text: a table row, a JSON object) to texts.

Special fields: the text itself; `id`; `words`, a list of ``{"start": 0, "end": 3, ...labels}``;
and `tokens`, a list of forms whose labels are the other lists of the same length. Every other
plain value is a label of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from layerscope.corpus.names import nearest
from layerscope.corpus.text import Text, Value, Words, as_value, is_value

Record = Mapping[str, Any]
TEXT_NAMES = ("text", "sentence", "content", "prompt")


class MisfitError(ValueError):
    """A record is not what was expected; whoever knows the file adds its name."""


@dataclass(frozen=True)
class Fields:
    """Which field of a record is what."""

    text: str | None
    """None where a text is its joined `tokens`."""
    group: str | None
    words: bool
    tokens: bool

    @classmethod
    def of(cls, record: Record, *, text: str | None, group: str | None) -> Fields:
        """What was said, and the rest guessed from the first record.

        Raises:
            MisfitError: no field is surely the text, or a named one is not there.
        """
        for asked, name in (("text", text), ("group", group)):
            if name is not None and name not in record:
                raise MisfitError(f"{asked}={name!r}: no such column; {nearest(name, record)}")
        words = _length(record.get("words")) is not None
        tokens = not words and _length(record.get("tokens")) is not None
        return cls(text or _guess(record, tokens), group, words, tokens)

    def ignored(self, record: Record) -> tuple[str, ...]:
        """Fields of the record that are neither special nor a plain value."""
        length = _length(record.get("tokens")) if self.tokens else None
        special = {"words"} if self.words else set()
        return tuple(
            name
            for name, value in record.items()
            if name not in special
            and not is_value(value)
            and (length is None or _length(value) != length)
        )


def texts_of(records: Iterable[Record], fields: Fields, *, prefix: str = "") -> Iterator[Text]:
    """One text per record; its id is the `id` field, else its place in the source, from 0.

    Raises:
        MisfitError: a record without text or group, or with words that do not fit its text.
    """
    for index, record in enumerate(records):
        name = prefix + str(record.get("id", index))
        try:
            content = _content(record, fields)
            words = _words(record, fields, content)
            group = name if fields.group is None else _group(record, fields.group)
            yield Text(content, name, group, _labels(record, fields), words)
        except ValueError as error:
            raise MisfitError(f"text {name!r}: {error}") from None


def _guess(record: Record, tokens: bool) -> str | None:
    by_lower = {name.lower(): name for name in record}
    for name in TEXT_NAMES:
        if isinstance(record.get(by_lower.get(name, name)), str):
            return by_lower[name]
    if tokens:
        return None
    strings = [name for name, value in record.items() if isinstance(value, str) and name != "id"]
    if len(strings) == 1:
        return strings[0]
    columns = ", ".join(map(repr, record)) or "none"
    raise MisfitError(f"which column is the text? There are: {columns}. Say text='...'")


def _content(record: Record, fields: Fields) -> str:
    if fields.text is None:
        return " ".join(record.get("tokens") or ())
    content = record.get(fields.text)
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{fields.text!r} is {content!r}, not a text")
    return content or ""


def _group(record: Record, name: str) -> str:
    value = record.get(name)
    if value is None:
        raise ValueError(f"no group: {name!r} is empty here; fill it, or leave the text out")
    return str(value)


def _labels(record: Record, fields: Fields) -> dict[str, Value]:
    special = {fields.text, fields.group, "id"}
    return {
        name: as_value(value)
        for name, value in record.items()
        if name not in special and is_value(value)
    }


def _words(record: Record, fields: Fields, content: str) -> Words | None:
    if fields.words and record.get("words"):
        return _from_spans(record["words"], content)
    if fields.tokens and record.get("tokens"):
        return _from_tokens(record, fields, content)
    return None


def _from_spans(given: Any, content: str) -> Words | None:
    """From ``[{"start": 0, "end": 3, "upos": "DET"}, ...]``, or the same as a mapping of lists."""
    if isinstance(given, Mapping):
        given = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
    for word in given:
        if not {"start", "end"} <= set(word):
            raise ValueError(f"each of its words needs 'start' and 'end', unlike {word!r}")
    spans = sorted(given, key=lambda word: (word["start"], word["end"]))
    start, end = (tuple(int(word[side]) for word in spans) for side in ("start", "end"))
    names = dict.fromkeys(name for word in spans for name in word)
    labels = {name: tuple(as_value(word.get(name)) for word in spans) for name in names}
    forms = tuple(content[left:right] for left, right in zip(start, end, strict=True))
    return Words(start, end, {"word": forms} | _without(labels, "start", "end", "word"))


def _from_tokens(record: Record, fields: Fields, content: str) -> Words:
    """From a list of forms and parallel lists of labels, the forms found in the text in order."""
    forms = tuple(record["tokens"])
    start: list[int] = []
    for form in forms:
        at = content.find(form, start[-1] + len(forms[len(start) - 1]) if start else 0)
        if at < 0:
            raise ValueError(f"token {len(start)}, {form!r}, is not in the text after the last one")
        start.append(at)
    end = tuple(at + len(form) for at, form in zip(start, forms, strict=True))
    columns = {
        name: tuple(as_value(value) for value in values)
        for name, values in record.items()
        if _length(values) == len(forms)
    }
    return Words(tuple(start), end, {"word": forms} | _without(columns, "tokens", "word"))


def _without(labels: dict[str, tuple[Value, ...]], *names: str) -> dict[str, tuple[Value, ...]]:
    return {name: column for name, column in labels.items() if name not in names}


def _length(value: Any) -> int | None:
    """How many entries a list field has (or each list in a mapping of lists); None for others."""
    if isinstance(value, Mapping):
        lengths = {_length(column) for column in value.values()}
        return lengths.pop() if len(lengths) == 1 else None
    return len(value) if isinstance(value, (list, tuple)) else None
