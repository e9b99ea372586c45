"""From records (one mapping per text: a table row, a JSON object) to texts.

Special fields: the text itself; `id`; `words`, a list of ``{"start": 0, "end": 3, ...labels}``;
or `tokens` (or `words`), a list of forms whose labels are the other lists of the same length.
Every other plain value is a label of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from layerscope.corpus.names import nearest
from layerscope.corpus.text import Text, Value, Words, as_value, is_value

Record = Mapping[str, Any]
TEXT_NAMES = ("text", "sentence", "content", "prompt")
FORM_NAMES = ("tokens", "words")


class MisfitError(ValueError):
    """A record is not what was expected; whoever knows the file adds its name."""


@dataclass(frozen=True)
class Fields:
    """Which field of a record is what."""

    text: str | None
    """None where a text is its joined forms."""
    group: str | None

    @classmethod
    def of(cls, record: Record, *, text: str | None, group: str | None) -> Fields:
        """What was said, and the rest guessed from the first record.

        Raises:
            MisfitError: no field is surely the text, or a named one is not there.
        """
        for asked, name in (("text", text), ("group", group)):
            if name is not None and name not in record:
                raise MisfitError(f"{asked}={name!r}: no such column; {nearest(name, record)}")
        return cls(text or _guess(record), group)


def ignored(record: Record) -> tuple[str, ...]:
    """Fields of the record that are neither special nor plain values."""
    special = {"words"} if _holds_spans(record) else set()
    forms = _forms(record)
    return tuple(
        name
        for name, value in record.items()
        if name not in special
        and not is_value(value)
        and (forms is None or _length(value) != len(forms))
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
            words = _words(record, content)
            group = name if fields.group is None else _group(record, fields.group)
            yield Text(content, name, group, _labels(record, fields), words)
        except ValueError as error:
            raise MisfitError(f"text {name!r}: {error}") from None


def _guess(record: Record) -> str | None:
    by_lower = {name.lower(): name for name in record}
    for name in TEXT_NAMES:
        if isinstance(record.get(by_lower.get(name, name)), str):
            return by_lower[name]
    if _forms(record) is not None:
        return None
    strings = [name for name, value in record.items() if isinstance(value, str) and name != "id"]
    if len(strings) == 1:
        return strings[0]
    columns = ", ".join(map(repr, record)) or "none"
    raise MisfitError(f"which column is the text? There are: {columns}. Say text='...'")


def _content(record: Record, fields: Fields) -> str:
    if fields.text is None:
        return " ".join(_forms(record) or ())
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


def _words(record: Record, content: str) -> Words | None:
    forms = _forms(record)
    if _holds_spans(record) and record["words"]:
        return _from_spans(record["words"], content)
    return _from_forms(forms, record, content) if forms else None


def _holds_spans(record: Record) -> bool:
    given = record.get("words")
    return isinstance(given, Mapping) or (
        isinstance(given, list) and all(isinstance(word, Mapping) for word in given)
    )


def _forms(record: Record) -> list[str] | None:
    """The list of words under `tokens` or `words`; None where there is no such list."""
    for name in FORM_NAMES:
        given = record.get(name)
        if isinstance(given, list) and all(isinstance(form, str) for form in given):
            return given
    return None


def _from_spans(given: Any, content: str) -> Words:
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


def _from_forms(forms: list[str], record: Record, content: str) -> Words:
    """From a list of forms and parallel lists of labels, the forms found in the text in order."""
    start: list[int] = []
    after = 0
    for form in forms:
        at = content.find(form, after)
        if at < 0:
            raise ValueError(f"token {len(start)}, {form!r}, is not in the text after the last one")
        start.append(at)
        after = at + len(form)
    end = tuple(at + len(form) for at, form in zip(start, forms, strict=True))
    columns = {
        name: tuple(as_value(value) for value in values)
        for name, values in record.items()
        if _length(values) == len(forms)
    }
    return Words(tuple(start), end, {"word": tuple(forms)} | _without(columns, *FORM_NAMES, "word"))


def _without(labels: dict[str, tuple[Value, ...]], *names: str) -> dict[str, tuple[Value, ...]]:
    return {name: column for name, column in labels.items() if name not in names}


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None
