"""Which labels a corpus keeps, and under what names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from layerscope.corpus.corpus import Corpus
from layerscope.corpus.names import nearest
from layerscope.corpus.text import Text

_PLACE = ("text", "sample", "position", "char_start", "char_end", "word_index")
_CONTENT = ("token_id", "token", "group", "content")
RESERVED = frozenset((*_PLACE, *_CONTENT))
"""Columns that every store's rows have; a label cannot take their place."""

T = TypeVar("T")
Asked = str | Sequence[str] | Mapping[str, str] | None


def with_labels(corpus: Corpus, asked: Asked) -> Corpus:
    """The corpus with the labels asked for; ``"word"`` always stays.

    Args:
        corpus: Any corpus.
        asked: One name, several, a mapping from the name in the data to another, or None for
            all that rows can hold.

    Raises:
        ValueError: a name that no text has, with the nearest ones, or one of `RESERVED`.
    """
    if asked is None:
        return _without_reserved(corpus)
    names = names_asked(asked)
    check_names(names.values())
    _check_found(corpus, set(names))
    return corpus.map(lambda text: _renamed(text, {"word": "word", **names}))


def names_asked(asked: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """From the name in the data to the name it gets."""
    if isinstance(asked, Mapping):
        return dict(asked)
    return {name: name for name in ([asked] if isinstance(asked, str) else asked)}


def check_names(names: Iterable[str]) -> None:
    """Refuse labels that are called like the columns all rows have."""
    taken = sorted(RESERVED & set(names))
    if taken:
        raise ValueError(
            f"label {taken[0]!r} is a column that rows always have; {_rename(taken[0])}"
        )


def _rename(name: str) -> str:
    return f"to keep it, rename it: label={{{name!r}: {'my_' + name!r}}}"


def _without_reserved(corpus: Corpus) -> Corpus:
    first = next(iter(corpus), None)
    clash = sorted(RESERVED & set(_names(first))) if first else []
    if not clash:
        return corpus
    note = f"{', '.join(map(repr, clash))} left out: rows have columns of that name; {_rename(clash[0])}"
    return corpus.map(_plain, notes=[note])


def _plain(text: Text) -> Text:
    return _renamed(text, {name: name for name in _names(text) if name not in RESERVED})


def _renamed(text: Text, names: Mapping[str, str]) -> Text:
    """The text with only the labels in `names`, under their new names."""
    words = text.words and replace(text.words, labels=_chosen(text.words.labels, names))
    return replace(text, labels=_chosen(text.labels, names), words=words)


def _chosen(labels: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    return {names[name]: value for name, value in labels.items() if name in names}


def _check_found(corpus: Corpus, wanted: set[str]) -> None:
    """Read until every label was seen, which is at once unless one is rare or wrong."""
    seen: dict[str, None] = {}
    for text in corpus:
        seen.update(dict.fromkeys(_names(text)))
        if wanted <= seen.keys():
            return
    lacking = min(wanted - seen.keys())
    raise ValueError(f"no label {lacking!r} in {corpus.name!r}; {nearest(lacking, seen)}")


def _names(text: Text) -> list[str]:
    return [*(text.words.labels if text.words else ()), *text.labels]
