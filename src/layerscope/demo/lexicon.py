"""The words of the generated language, and the forms that belong to more than one class."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as it would be said."""
    return tuple(text.split())


BEINGS = words(
    "dog cat boy girl king queen farmer doctor teacher sailor baker child man woman bird horse "
    "fox bear mouse sheep deer fish guard cook guide judge pilot painter"
)
THINGS = words(
    "key cabinet house garden road book table door box tree river wall window bridge lamp chair "
    "letter picture stone boat bag ship tower coat cup plate ring shop field hill story song watch "
    "plant drink light orange square paint park present secret play dance dream answer walk ride"
)
IRREGULAR_PLURAL = {
    "child": "children", "man": "men", "woman": "women", "mouse": "mice",
    "sheep": "sheep", "deer": "deer", "fish": "fish",
}  # fmt: skip

INTRANSITIVE = words(
    "sleep run arrive fall laugh sing sit wait walk fish dance play dream work swim"
)
TRANSITIVE = words(
    "see find carry take follow chase like build bring watch plant drink paint call visit help "
    "love guard cook answer guide judge clean open light cool warm dry calm ride pull"
)
CLAUSAL = words("say think know believe hope")
CONTROL = words("want try hope")
IRREGULAR_PAST = {
    "sleep": "slept", "run": "ran", "fall": "fell", "sing": "sang", "sit": "sat", "swim": "swam",
    "see": "saw", "find": "found", "take": "took", "build": "built", "bring": "brought",
    "drink": "drank", "light": "lit", "say": "said", "think": "thought", "know": "knew",
    "ride": "rode",
}  # fmt: skip
IRREGULAR_PARTICIPLE = {
    "run": "run", "fall": "fallen", "sing": "sung", "swim": "swum", "see": "seen", "take": "taken",
    "drink": "drunk", "know": "known", "ride": "ridden",
}  # fmt: skip

ADJECTIVES = words(
    "old young small big red green quiet happy sad tall strong kind new heavy "
    "clean open light cool warm dry calm orange square present secret"
)
ADVERBS = words("slowly often quickly never always here today gladly soon again")
DEGREES = words("very quite too")
PREPOSITIONS = words("near behind under beside in on with before after from")
DETERMINERS = {"Sing": words("the a this that every"), "Plur": words("the the these those many")}
NUMERALS = words("two three four five")
MODALS = words("can will must may")
SUBORDINATORS = words("because when if while")
PRONOUNS = {"Sing": ("he", "she", "it"), "Plur": ("they", "we")}
POSSESSIVES = {"he": "his", "she": "her", "it": "its", "they": "their", "we": "our"}
GENDERED = {
    "boy": "he", "man": "he", "king": "he", "girl": "she", "woman": "she", "queen": "she",
}  # fmt: skip

_DOUBLED = {"run", "sit", "swim"}


def plural(noun: str) -> str:
    """The plural of a noun: ``watches``, ``stories``, ``sheep``."""
    return IRREGULAR_PLURAL.get(noun) or with_s(noun)


def with_s(stem: str) -> str:
    """The form in -s, which plural nouns and third-person verbs share: ``watches``, ``cries``."""
    if stem.endswith(("s", "x", "ch", "sh")):
        return stem + "es"
    if stem.endswith("y") and stem[-2] not in "aeiou":
        return stem[:-1] + "ies"
    return stem + "s"


def past(verb: str) -> str:
    """The past tense: ``watched``, ``saw``."""
    return IRREGULAR_PAST.get(verb) or _with_ed(verb)


def participle(verb: str) -> str:
    """The past participle, as after ``has``: ``watched``, ``seen``."""
    return IRREGULAR_PARTICIPLE.get(verb) or past(verb)


def gerund(verb: str) -> str:
    """The form in -ing: ``watching``, ``dancing``, ``running``."""
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb) + "ing"


def _with_ed(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "ed"


class Inflected(NamedTuple):
    """A form of an open class: what it looks like and what it is."""

    form: str
    upos: str


def inflections() -> set[Inflected]:
    """Every form of every noun, verb and adjective, with its class."""
    nouns = {form for noun in BEINGS + THINGS for form in (noun, plural(noun))}
    verbs = {
        form
        for verb in INTRANSITIVE + TRANSITIVE + CLAUSAL + CONTROL
        for form in (verb, with_s(verb), past(verb), participle(verb), gerund(verb))
    }
    classes = {"NOUN": nouns, "VERB": verbs, "ADJ": set(ADJECTIVES)}
    return {Inflected(form, upos) for upos, forms in classes.items() for form in forms}


def ambiguous_forms() -> frozenset[str]:
    """The forms that belong to more than one open class: ``watch``, ``plants``, ``light``."""
    classes: dict[str, set[str]] = defaultdict(set)
    for form, upos in inflections():
        classes[form].add(upos)
    return frozenset(form for form, found in classes.items() if len(found) > 1)
