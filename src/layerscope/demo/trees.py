"""Dependency trees that are built top-down and written as CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Node:
    """A word and what hangs on it; the words of `left` come before it, those of `right` after."""

    form: str
    lemma: str
    upos: str
    deprel: str
    feats: dict[str, str] = field(default_factory=dict)
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def words(self) -> Iterator[Node]:
        """All words of the tree in the order they are said."""
        for node in self.left:
            yield from node.words()
        yield self
        for node in self.right:
            yield from node.words()


@dataclass(frozen=True)
class Sentence:
    """A finished sentence: words in order, with the 1-based position of each one's head."""

    words: tuple[Node, ...]
    heads: tuple[int, ...]
    """0 for the root."""

    @property
    def text(self) -> str:
        """The sentence as it is written: no space before a mark."""
        spaced = "".join(("" if word.upos == "PUNCT" else " ") + word.form for word in self.words)
        return spaced.lstrip()


def finished(root: Node) -> Sentence:
    """Order the tree, find each word's head; write ``an`` and the first capital."""
    words = tuple(root.words())
    place = {id(word): index for index, word in enumerate(words, start=1)}
    head = {id(child): place[id(word)] for word in words for child in word.left + word.right}
    for word, following in pairwise(words):
        if word.form == "a" and following.form[0] in "aeiou":
            word.form = "an"
    words[0].form = words[0].form[0].upper() + words[0].form[1:]
    return Sentence(words, tuple(head.get(id(word), 0) for word in words))


def to_conllu(sentence: Sentence, sent_id: str) -> str:
    """One sentence as a CoNLL-U block, closed by its empty line."""
    lines = [f"# sent_id = {sent_id}", f"# text = {sentence.text}"]
    for index, (word, head) in enumerate(zip(sentence.words, sentence.heads, strict=True), 1):
        glued = index < len(sentence.words) and sentence.words[index].upos == "PUNCT"
        row = [
            str(index),
            word.form,
            word.lemma,
            word.upos,
            "_",
            "|".join(f"{name}={word.feats[name]}" for name in sorted(word.feats, key=str.lower))
            or "_",
            str(head),
            word.deprel,
            "_",
            "SpaceAfter=No" if glued else "_",
        ]
        lines.append("\t".join(row))
    return "\n".join(lines) + "\n\n"
