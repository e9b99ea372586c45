"""The material of a sentence: vocabulary, subjects, and words with their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layerscope.demo import lexicon as lex
from layerscope.demo.chance import Chance
from layerscope.demo.trees import Node

BE = {
    ("Pres", "Sing"): "is",
    ("Pres", "Plur"): "are",
    ("Past", "Sing"): "was",
    ("Past", "Plur"): "were",
}
DO = {("Pres", "Sing"): "does", ("Pres", "Plur"): "do"}
HAVE = {("Pres", "Sing"): "has", ("Pres", "Plur"): "have"}
REFLEXIVES = {"he": "himself", "she": "herself", "it": "itself", "they": "themselves"}


@dataclass(frozen=True)
class Vocabulary:
    """What one document talks about: its own invented words, favourite nouns and people."""

    nouns: Sequence[str]
    verbs: Sequence[str]
    adjectives: Sequence[str]
    invented_nouns: Sequence[str]
    invented_verbs: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """A subject and what must agree with it."""

    phrase: Node
    number: str
    pronoun: str


class Wording:
    """Picks words: at random, and more often those that the document favours."""

    def __init__(self, chance: Chance, vocabulary: Vocabulary) -> None:
        self.chance = chance
        self.vocabulary = vocabulary
        self.ambiguous = lex.ambiguous_forms()

    def verb(self, stems: Sequence[str]) -> str:
        """A stem from the list, at times one the document favours or has invented."""
        if self.vocabulary.invented_verbs and self.chance.happens(0.1):
            return self.chance.pick(self.vocabulary.invented_verbs)
        favourites = [stem for stem in self.vocabulary.verbs if stem in stems]
        return self.chance.pick(favourites if favourites and self.chance.happens(0.4) else stems)

    def noun(self, number: str, deprel: str) -> Node:
        """A bare noun; subjects are mostly living."""
        if self.vocabulary.invented_nouns and self.chance.happens(0.1):
            stem = self.chance.pick(self.vocabulary.invented_nouns)
        elif deprel == "nsubj" and self.chance.happens(0.6):
            stem = self.chance.pick(lex.BEINGS)
        else:
            favourite = self.chance.happens(0.4)
            stem = self.chance.pick(self.vocabulary.nouns if favourite else lex.BEINGS + lex.THINGS)
        form = lex.plural(stem) if number == "Plur" else stem
        return self.word(form, stem, "NOUN", deprel, Number=number)

    def adjective(self, deprel: str) -> Node:
        """An adjective, at times one the document favours."""
        favourite = self.chance.happens(0.3)
        word = self.chance.pick(self.vocabulary.adjectives if favourite else lex.ADJECTIVES)
        return self.word(word, word, "ADJ", deprel, Degree="Pos")

    def number(self) -> str:
        """A number for a new phrase."""
        return "Plur" if self.chance.happens(0.45) else "Sing"

    def word(self, form: str, lemma: str, upos: str, deprel: str, **feats: str) -> Node:
        """A word of an open class."""
        return self.open_word(Node(form, lemma, upos, deprel, feats))

    def open_word(self, node: Node) -> Node:
        """Mark the class where the form alone leaves it open."""
        invented = (*self.vocabulary.invented_nouns, *self.vocabulary.invented_verbs)
        if node.lemma in invented:
            node.feats["Invented"] = "Yes"
        if node.form in self.ambiguous or node.lemma in invented:
            node.feats["Reading"] = node.upos
        return node


def pronoun_of(noun: str, number: str) -> str:
    """The pronoun that stands for a noun."""
    return "they" if number == "Plur" else lex.GENDERED.get(noun, "it")


def finite(form: str, lemma: str, upos: str, deprel: str, number: str, tense: str) -> Node:
    """A finite verb whose form shows its number."""
    feats = {"Mood": "Ind", "Number": number, "Tense": tense, "VerbForm": "Fin"}
    return Node(form, lemma, upos, deprel, feats)


def hiding(form: str, lemma: str, upos: str, deprel: str, number: str, tense: str) -> Node:
    """A finite verb whose form hides the number of its subject: UD's layered ``Number[subj]``."""
    feats = {"Number[subj]": number, "VerbForm": "Fin"} | ({"Tense": tense} if tense else {})
    return Node(form, lemma, upos, deprel, feats)


def proper(name: str, deprel: str) -> Node:
    """A person."""
    return Node(name, name, "PROPN", deprel, {"Number": "Sing"})


def adverb(word: str) -> Node:
    """An adverb."""
    return Node(word, word, "ADV", "advmod")


def mark(form: str) -> Node:
    """A comma or a full stop."""
    return Node(form, form, "PUNCT", "punct")
