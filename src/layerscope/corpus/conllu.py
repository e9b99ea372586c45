"""CoNLL-U: sentences whose words carry classes, features and a dependency tree.

Format: https://universaldependencies.org/format.html. Empty nodes are passed over; the words of
a multiword token lie where their forms are found in it, or all share its span (French *du*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from layerscope.corpus.files import numbered_lines
from layerscope.corpus.text import Text, Value, Words

GROUPS = ("document", "sentence")
_RANGE, _EMPTY = re.compile(r"(\d+)-(\d+)"), re.compile(r"\d+\.\d+")


@dataclass
class _Sentence:
    """The lines of one sentence, checked and sorted by kind."""

    line: int
    """Where it begins."""
    comments: dict[str, str] = field(default_factory=dict)
    words: list[list[str]] = field(default_factory=list)
    """Ten columns each."""
    lines: list[int] = field(default_factory=list)
    """Where each word stands in the file."""
    ranges: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    """Multiword tokens: first word -> (last word, columns)."""


def read_conllu(path: Path, *, group: str | None = None, prefix: str = "") -> Iterator[Text]:
    """The sentences of a file, in order.

    Args:
        path: A .conllu or .conllu.gz file.
        group: ``"document"`` (the default: the `newdoc`, or the sentence where there is none)
            or ``"sentence"``.
        prefix: Put before ids and groups.

    Raises:
        ValueError: a malformed line, with its number and what is wrong.
    """
    if group not in (None, *GROUPS):
        raise ValueError(f"group for CoNLL-U is one of {', '.join(GROUPS)}, not {group!r}")
    document = None
    for index, sentence in enumerate(_sentences(path)):
        name = prefix + sentence.comments.get("sent_id", str(index))
        if "newdoc" in sentence.comments or "newdoc id" in sentence.comments:
            document = prefix + sentence.comments.get("newdoc id", name)
        try:
            content, words = _content_and_words(sentence)
        except _Malformed as error:
            raise ValueError(f"{path}, line {error.line}: {error}") from None
        in_group = name if document is None or group == "sentence" else document
        yield Text(content, name, in_group, {}, words)


class _Malformed(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _sentences(path: Path) -> Iterator[_Sentence]:
    current: _Sentence | None = None
    for number, raw in numbered_lines(path):
        line = raw.rstrip("\r\n")
        if line.strip():
            current = current or _Sentence(number)
            try:
                _add(current, number, line)
            except _Malformed as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
        elif current:
            yield current
            current = None
    if current:
        yield current


def _add(sentence: _Sentence, number: int, line: str) -> None:
    if line.startswith("#"):
        key, _, value = line[1:].partition("=")
        sentence.comments[key.strip()] = value.strip()
        return
    columns = line.split("\t")
    if len(columns) != 10:
        hint = "; they are separated by tabs, not spaces" if len(columns) == 1 else ""
        raise _Malformed(
            number, f"{len(columns)} columns where CoNLL-U has 10{hint}: {line[:60]!r}"
        )
    expected = len(sentence.words) + 1
    if columns[0].isdecimal():
        if int(columns[0]) != expected:
            raise _Malformed(number, f"word {columns[0]} where word {expected} was expected")
        sentence.words.append(columns)
        sentence.lines.append(number)
    elif match := _RANGE.fullmatch(columns[0]):
        first, last = int(match[1]), int(match[2])
        if first != expected or last <= first:
            raise _Malformed(number, f"multiword token {columns[0]} before word {expected}")
        sentence.ranges[first] = (last, columns)
    elif not _EMPTY.fullmatch(columns[0]):
        raise _Malformed(number, f"{columns[0]!r} is not a word number")


def _content_and_words(sentence: _Sentence) -> tuple[str, Words | None]:
    surface = _surface(sentence)
    content = sentence.comments.get("text") or _rebuilt(surface)
    if not sentence.words:
        return content, None
    start: list[int] = []
    end: list[int] = []
    at = 0
    for forms, shown, line, _ in surface:
        at = _find(content, shown, at, line)
        for left, right in _within(shown, forms):
            start.append(at + left)
            end.append(at + right)
        at += len(shown)
    return content, Words(tuple(start), tuple(end), _labels(sentence))


def _surface(sentence: _Sentence) -> list[tuple[list[str], str, int, bool]]:
    """(forms of the words, what is written, line, space after) of each surface token."""
    found = []
    number = 1
    while number <= len(sentence.words):
        last, columns = sentence.ranges.get(number, (number, sentence.words[number - 1]))
        line = sentence.lines[number - 1]
        if last > len(sentence.words):
            raise _Malformed(line, f"multiword token {columns[0]} reaches beyond the last word")
        forms = [word[1] for word in sentence.words[number - 1 : last]]
        if not all((*forms, columns[1])):
            raise _Malformed(line, f"word {number} has an empty form")
        found.append((forms, columns[1], line, "SpaceAfter=No" not in columns[9].split("|")))
        number = last + 1
    return found


def _rebuilt(surface: Iterable[tuple[list[str], str, int, bool]]) -> str:
    return "".join(shown + " " * space for _, shown, _, space in surface).rstrip()


def _find(content: str, shown: str, at: int, line: int) -> int:
    while at < len(content) and content[at].isspace():
        at += 1
    if not content.startswith(shown, at):
        raise _Malformed(
            line,
            f"the '# text =' line goes on with {content[at : at + 20]!r}, the words with "
            f"{shown!r}; correct it, or delete it to have it rebuilt from the words",
        )
    return at


def _within(shown: str, forms: list[str]) -> list[tuple[int, int]]:
    """Where each form lies inside the multiword token; all of it where they do not add up."""
    if len(forms) == 1 or "".join(forms) != shown:
        return [(0, len(shown))] * len(forms)
    ends = [len("".join(forms[: count + 1])) for count in range(len(forms))]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _labels(sentence: _Sentence) -> dict[str, tuple[Value, ...]]:
    words = sentence.words
    heads = _heads(sentence)
    upos = [_value(word[3]) for word in words]
    labels: dict[str, tuple[Value, ...]] = {
        "word": tuple(word[1] for word in words),
        "lemma": tuple(word[2] if word[1] == "_" else _value(word[2]) for word in words),
        "upos": tuple(upos),
        "xpos": tuple(_value(word[4]) for word in words),
        "head": tuple(heads),
        "deprel": tuple(_value(word[7]) for word in words),
        "depth": _depths(heads, sentence),
        "next_upos": (*upos[1:], None),
    }
    features = [_features(word[5]) for word in words]
    if None in features:
        number = features.index(None)
        raise _Malformed(
            sentence.lines[number], f"features are Name=Value|..., not {words[number][5]!r}"
        )
    for name in sorted({name for found in features for name in found or ()}):
        labels[name] = tuple((found or {}).get(name) for found in features)
    return labels


def _value(column: str) -> str | None:
    return None if column == "_" else column


@lru_cache(maxsize=4096)
def _features(column: str) -> dict[str, str] | None:
    """``"Number=Sing|Person=3"`` as a dict; None where it is malformed."""
    if column == "_":
        return {}
    pairs = [item.partition("=") for item in column.split("|")]
    return {n: v for n, _, v in pairs} if all(n and v for n, _, v in pairs) else None


def _heads(sentence: _Sentence) -> list[int | None]:
    heads: list[int | None] = []
    count = len(sentence.words)
    for word, line in zip(sentence.words, sentence.lines, strict=True):
        if word[6] == "_":
            heads.append(None)
        elif word[6].isdecimal() and int(word[6]) <= count:
            heads.append(int(word[6]))
        else:
            raise _Malformed(line, f"head {word[6]!r} is not 0 (root) or a word from 1 to {count}")
    return heads


def _depths(heads: list[int | None], sentence: _Sentence) -> tuple[int | None, ...]:
    """Edges from each word up to its root: 0 for a root, None where a head is not given."""
    known: dict[int, int | None] = {0: -1}
    for number in range(1, len(heads) + 1):
        path: list[int] = []
        at: int | None = number
        while at is not None and at not in known:
            if at in path:
                circle = " -> ".join(str(step) for step in [*path[path.index(at) :], at])
                raise _Malformed(sentence.lines[at - 1], f"the heads run in a circle: {circle}")
            path.append(at)
            at = heads[at - 1]
        depth = None if at is None else known[at]
        for step in reversed(path):
            depth = None if depth is None else depth + 1
            known[step] = depth
    return tuple(known[number] for number in range(1, len(heads) + 1))
