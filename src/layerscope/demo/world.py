"""A small world: people, their relations and attributes, and questions of one and two hops.

Every fact is a sentence, ``The friend of Anna is Bert.``; two facts chain into one,
``The city of the friend of Anna is Paris.`` Of the chains, a quarter is never shown in training:
to answer those, a model must go through Bert, whom the question does not name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from layerscope.demo.chance import Chance
from layerscope.demo.lexicon import words

NAMES = words(
    "Anna Bert Carl Dora Emil Gina Hugo Ida Jack Kate Leo Mary Nora Otto Paul Rosa Sam Tina Victor "
    "Wanda Adam Bella Cora Felix Greta Ivan Julia Kurt Lena Oscar"
)
PERSON_RELATIONS = words("friend mother teacher boss neighbour sister")
ATTRIBUTES = {
    "city": words("Paris London Rome Berlin Madrid Oslo Cairo Lima Tokyo Dublin"),
    "job": words("baker pilot sailor painter judge farmer cook guard"),
    "pet": words("dog cat bird horse fox mouse sheep fish"),
    "colour": words("red green orange blue black white pink brown"),
}
SEED = "world"
HELD_OUT = 0.25
"""Share of the two-hop questions that training never shows."""


@dataclass(frozen=True)
class Question:
    """A sentence without its last word, and that word."""

    prompt: str
    answer: str
    hops: Literal[1, 2]
    bridge: str | None
    """The person in the middle of a two-hop question, whom the prompt does not name."""
    relations: tuple[str, ...]
    """In the order they are followed."""
    start: str
    """The person named in the prompt."""
    seen: bool
    """Whether training shows this very sentence."""

    @property
    def completion(self) -> str:
        """What follows the prompt in training."""
        return f" {self.answer}."


@cache
def facts() -> dict[tuple[str, str], str]:
    """``(relation, person)`` to the person or thing; nobody is their own friend."""
    chance = Chance(SEED)
    table = {}
    for relation in PERSON_RELATIONS:
        for name in NAMES:
            table[relation, name] = chance.pick([other for other in NAMES if other != name])
    for relation, things in ATTRIBUTES.items():
        for name in NAMES:
            table[relation, name] = chance.pick(things)
    return table


def candidates(relation: str) -> tuple[str, ...]:
    """Everything that could answer a question that asks for `relation` last."""
    return ATTRIBUTES.get(relation, NAMES)


@cache
def all_questions() -> tuple[Question, ...]:
    """Every one-hop and two-hop question of the world, in a fixed order."""
    return (*_one_hop(), *_two_hop())


def _one_hop() -> Iterator[Question]:
    for (relation, name), answer in facts().items():
        yield Question(f"The {relation} of {name} is", answer, 1, None, (relation,), name, True)


def _two_hop() -> Iterator[Question]:
    chance = Chance(f"{SEED}/held out")
    for first in PERSON_RELATIONS:
        for second in (*PERSON_RELATIONS, *ATTRIBUTES):
            for name in NAMES:
                bridge = facts()[first, name]
                answer = facts()[second, bridge]
                prompt = f"The {second} of the {first} of {name} is"
                seen = not chance.happens(HELD_OUT)
                yield Question(prompt, answer, 2, bridge, (first, second), name, seen)
