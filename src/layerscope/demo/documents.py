"""Documents of generated sentences: the bundled file and the endless training stream."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import cache

from layerscope.demo import lexicon as lex
from layerscope.demo.chance import Chance
from layerscope.demo.grammar import Grammar
from layerscope.demo.phrases import Vocabulary
from layerscope.demo.trees import Sentence, to_conllu
from layerscope.demo.world import NAMES

BUNDLED_DOCUMENTS = 350
SENTENCES_PER_DOCUMENT = (4, 5, 6, 7, 8, 9, 10, 11, 12)
ONSETS = lex.words("b bl br d dr f fl g gl gr j k kl kr m n p pl pr s sk sl sm sn sp st t tr v w z")
VOWELS = lex.words("a e i o u oo ee")
CODAS = lex.words("b ck d ff g k l lk lt m mp n nd nk nt p rb rk rm rt sk st t v zz")


def document(seed: str) -> list[Sentence]:
    """The document of a seed: always the same sentences."""
    chance = Chance(seed)
    grammar = Grammar(chance, _vocabulary(chance))
    return [grammar.sentence() for _ in range(chance.pick(SENTENCES_PER_DOCUMENT))]


@cache
def bundled() -> dict[str, tuple[Sentence, ...]]:
    """The documents that ship with the package, by id."""
    return {
        f"d{index:03d}": tuple(document(f"bundled/{index}")) for index in range(BUNDLED_DOCUMENTS)
    }


@cache
def held_out() -> frozenset[str]:
    """The bundled sentences, which training must not see."""
    return frozenset(sentence.text for found in bundled().values() for sentence in found)


def bundled_conllu() -> str:
    """The bundled documents as one CoNLL-U text."""
    parts = []
    for name, sentences in bundled().items():
        parts.append(f"# newdoc id = {name}\n")
        parts += [to_conllu(sentence, f"{name}-{i}") for i, sentence in enumerate(sentences, 1)]
    return "".join(parts)


def compressed(text: str) -> bytes:
    """The text as gzip without name or time, so that the same text gives the same bytes."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def training_documents(stream: str) -> Iterator[list[str]]:
    """Endless documents as lists of texts; no sentence of the bundled file is among them."""
    index = 0
    while True:
        texts = [sentence.text for sentence in document(f"train/{stream}/{index}")]
        yield [text for text in texts if text not in held_out()]
        index += 1


def _vocabulary(chance: Chance) -> Vocabulary:
    taken = {form for form, _ in lex.inflections()}
    invented = [_invented(chance, taken) for _ in range(chance.pick((1, 2, 3, 4)))]
    split = chance.pick(range(len(invented) + 1))
    return Vocabulary(
        nouns=chance.shuffled(lex.BEINGS + lex.THINGS)[:8],
        verbs=chance.shuffled(lex.TRANSITIVE + lex.INTRANSITIVE)[:6],
        adjectives=chance.shuffled(lex.ADJECTIVES)[:4],
        invented_nouns=invented[:split],
        invented_verbs=invented[split:],
        names=chance.shuffled(NAMES)[:2],
    )


def _invented(chance: Chance, taken: set[str]) -> str:
    """A word that could be English and is not, such as ``blick`` or ``snarmp``."""
    while True:
        syllables = chance.pick((1, 1, 2))
        word = "".join(chance.pick(ONSETS) + chance.pick(VOWELS) for _ in range(syllables))
        word += chance.pick(CODAS)
        if word not in taken:
            return word
