"""Which labels a corpus keeps, and under what names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from layerscope.corpus.corpus import Corpus
from layerscope.corpus.names import nearest
from layerscope.corpus.text import Text

RESERVED = frozenset(
    "text position token_id token char_start char_end group content word_index sample".split()
)
"""Columns that every store's rows have; a label cannot take their place."""

Asked = str | Sequence[str] | Mapping[str, str] | None


def with_labels(corpus: Corpus, asked: Asked) -> Corpus:
    """The corpus with the labels asked for; ``"word"`` always stays.

    Args:
        corpus: Any corpus.
        asked: One name, several, a mapping from the name in the data to another, or None for all.

    Raises:
        ValueError: a name that no text has, with the nearest ones, or one of `RESERVED`.
    """
    if asked is None:
        return _without_reserved(corpus)
    names = {asked: asked} if isinstance(asked, str) else _mapping(asked)
    taken = sorted(RESERVED & set(names.values()))
    if taken:
        raise ValueError(
            f"label {taken[0]!r} has the name of a column that rows always have; rename it, "
            f"such as label={{{taken[0]!r}: {'my_' + taken[0]!r}}}"
        )
    _check_found(corpus, set(names))
    return _mapped(corpus, {"word": "word", **names}, corpus.given_notes)


def _mapping(asked: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return dict(asked) if isinstance(asked, Mapping) else {name: name for name in asked}


def _without_reserved(corpus: Corpus) -> Corpus:
    first = next(iter(corpus), None)
    clash = sorted(RESERVED & set(_names(first))) if first else []
    if not clash:
        return corpus
    note = (
        f"columns {', '.join(map(repr, clash))} were left out, because rows have columns of that "
        f"name; to keep one, rename it: label={{{clash[0]!r}: {'my_' + clash[0]!r}}}"
    )
    return _mapped(corpus, None, (*corpus.given_notes, note))


def _check_found(corpus: Corpus, wanted: set[str]) -> None:
    """Read until every label was seen, which is at once unless one is rare or wrong."""
    seen: dict[str, None] = {}
    for text in corpus:
        seen.update(dict.fromkeys(_names(text)))
        if wanted <= seen.keys():
            return
    lacking = sorted(wanted - seen.keys())[0]
    raise ValueError(f"no label {lacking!r} in {corpus.name!r}; {nearest(lacking, seen)}")


def _names(text: Text) -> list[str]:
    return [*(text.words.labels if text.words else ()), *text.labels]


def _mapped(corpus: Corpus, names: dict[str, str] | None, notes: Sequence[str]) -> Corpus:
    def kept(name: str) -> str | None:
        return names.get(name) if names is not None else None if name in RESERVED else name

    def texts() -> Iterator[Text]:
        for text in corpus:
            labels = {kept(name): value for name, value in text.labels.items()}
            words = text.words
            ...
            yield replace(text, labels=labels, words=words)

    return Corpus(corpus.name, texts, files=corpus._files, notes=notes)
