"""English-like sentences whose labels are known because they were built, not guessed.

A sentence grows from its main clause downwards; each phrase is a dependency tree in Universal
Dependencies style. What makes the language worth probing:

- class: many forms are nouns, verbs or adjectives depending on the place (``watch``, ``light``,
  the ``-s`` of both ``plants``), and invented words have only their place;
- number: verbs agree with their subject across phrases that hold nouns of the other number, and a
  past tense or modal hides the number that the context has told;
- depth: prepositional phrases, relative, that-, to- and adverbial clauses nest.
"""

from __future__ import annotations

from layerscope.demo import lexicon as lex
from layerscope.demo.phrases import (
    BE,
    DO,
    HAVE,
    REFLEXIVES,
    Subject,
    Wording,
    adverb,
    finite,
    hiding,
    mark,
    pronoun_of,
    proper,
)
from layerscope.demo.trees import Node, Sentence, finished

OTHER = {"Sing": "Plur", "Plur": "Sing"}
ROOM = 3
"""How deep phrases may nest in a sentence; each clause or attached phrase uses one."""


class Grammar(Wording):
    """Builds sentences over one vocabulary from one stream of choices."""

    def sentence(self) -> Sentence:
        """A whole sentence with its full stop."""
        root = self.clause(ROOM)
        if self.chance.happens(0.1):
            opener = self.attached_phrase(1, "obl")
            opener.right.append(mark(","))
            root.left.insert(0, opener)
        elif self.chance.happens(0.08):
            opener = self.subordinate(1)
            opener.right.append(mark(","))
            root.left.insert(0, opener)
        elif self.chance.happens(0.08):
            root.right.append(self.subordinate(1))
        root.right.append(mark("."))
        return finished(root)

    # Clauses -----------------------------------------------------------------------------------

    def clause(self, room: int, deprel: str = "root") -> Node:
        """Subject and predicate; the predicate's head is the node returned."""
        subject = self.subject(room)
        root = self.predicate(subject, room, deprel)
        root.left.insert(0, subject.phrase)
        return root

    def predicate(self, subject: Subject, room: int, deprel: str) -> Node:
        """What is said of the subject, sometimes two things joined by ``and``."""
        root = self.simple_predicate(subject, room, deprel)
        if room >= 2 and self.chance.happens(0.18):
            second = self.simple_predicate(subject, room - 2, "conj")
            second.left.insert(0, Node("and", "and", "CCONJ", "cc"))
            root.right.append(second)
        return root

    def simple_predicate(self, subject: Subject, room: int, deprel: str) -> Node:
        """One thing said of the subject: a verb with its objects, or a copula."""
        kind = {
            self.intransitive: 3.0,
            self.transitive: 5.0,
            self.copular: 3.5,
            self.clausal: 1.2 if room >= 2 else 0.0,
            self.control: 1.0 if room >= 1 else 0.0,
        }
        return self.chance.weighted(kind)(subject, room, deprel)

    def intransitive(self, subject: Subject, room: int, deprel: str) -> Node:
        """``slept``, ``will wait near the river``."""
        root = self.verb_group(self.verb(lex.INTRANSITIVE), subject, deprel)
        self.adjuncts(root, room)
        return root

    def transitive(self, subject: Subject, room: int, deprel: str) -> Node:
        """``sees the dog``, ``has lit its lamps``."""
        root = self.verb_group(self.verb(lex.TRANSITIVE), subject, deprel)
        root.right.append(self.object(subject, room))
        self.adjuncts(root, room)
        return root

    def clausal(self, subject: Subject, room: int, deprel: str) -> Node:
        """``says that the dog sleeps``."""
        root = self.verb_group(self.chance.pick(lex.CLAUSAL), subject, deprel)
        said = self.clause(room - 2, "ccomp")
        said.left.insert(0, Node("that", "that", "SCONJ", "mark"))
        root.right.append(said)
        return root

    def control(self, subject: Subject, room: int, deprel: str) -> Node:
        """``wants to see the dog``."""
        root = self.verb_group(self.chance.pick(lex.CONTROL), subject, deprel)
        transitive = self.chance.happens(0.6)
        stem = self.verb(lex.TRANSITIVE if transitive else lex.INTRANSITIVE)
        wanted = self.word(stem, stem, "VERB", "xcomp", VerbForm="Inf")
        wanted.left.append(Node("to", "to", "PART", "mark"))
        if transitive:
            wanted.right.append(self.object(subject, room - 1))
        root.right.append(wanted)
        return root

    def copular(self, subject: Subject, room: int, deprel: str) -> Node:
        """``is old``, ``were very happy``, ``is a farmer``, ``are behind the house``."""
        tense = "Past" if self.chance.happens(0.3) else "Pres"
        be = finite(BE[tense, subject.number], "be", "AUX", "cop", subject.number, tense)
        can_trade = subject.phrase.lemma in lex.BEINGS or subject.phrase.upos == "PROPN"
        kind = self.chance.weighted({"quality": 5, "place": 2, "trade": 2.5 if can_trade else 0})
        if kind == "quality":
            root = self.adjective(deprel)
            if self.chance.happens(0.4):
                root.left.append(adverb(self.chance.pick(lex.DEGREES)))
        elif kind == "place":
            root = self.attached_phrase(room - 1, deprel)
        else:
            root = self.trade(subject.number, deprel)
        negation = [Node("not", "not", "PART", "advmod")] if self.chance.happens(0.12) else []
        root.left[:0] = [be, *negation]
        return root

    def subordinate(self, room: int) -> Node:
        """``because the dog sleeps``."""
        root = self.clause(room, "advcl")
        word = self.chance.pick(lex.SUBORDINATORS)
        root.left.insert(0, Node(word, word, "SCONJ", "mark"))
        return root

    # Verbs -------------------------------------------------------------------------------------

    def verb_group(self, stem: str, subject: Subject, deprel: str) -> Node:
        """A verb in some tense with its auxiliaries, agreeing with the subject."""
        number = subject.number
        kind = self.chance.weighted(
            {"pres": 4, "past": 3.5, "modal": 1.3, "perf": 1, "prog": 1, "not": 0.8}
        )
        if kind == "pres":
            form = lex.with_s(stem) if number == "Sing" else stem
            return self.open_word(finite(form, stem, "VERB", deprel, number, "Pres"))
        if kind == "past":
            return self.open_word(hiding(lex.past(stem), stem, "VERB", deprel, number, "Past"))
        if kind == "modal":
            modal = self.chance.pick(lex.MODALS)
            helpers = [hiding(modal, modal, "AUX", "aux", number, "")]
            verb = self.word(stem, stem, "VERB", deprel, VerbForm="Inf")
        elif kind == "perf":
            helpers = [finite(HAVE["Pres", number], "have", "AUX", "aux", number, "Pres")]
            verb = self.word(
                lex.participle(stem), stem, "VERB", deprel, Tense="Past", VerbForm="Part"
            )
        elif kind == "prog":
            tense = "Past" if self.chance.happens(0.4) else "Pres"
            helpers = [finite(BE[tense, number], "be", "AUX", "aux", number, tense)]
            verb = self.word(lex.gerund(stem), stem, "VERB", deprel, Tense="Pres", VerbForm="Part")
        else:
            helpers = [finite(DO["Pres", number], "do", "AUX", "aux", number, "Pres")]
            helpers.append(Node("not", "not", "PART", "advmod"))
            verb = self.word(stem, stem, "VERB", deprel, VerbForm="Inf")
        verb.left = [*helpers, *verb.left]
        return verb

    def adjuncts(self, root: Node, room: int) -> None:
        """Add where and how to a verb, or nothing."""
        if self.chance.happens(0.2):
            root.right.append(adverb(self.chance.pick(lex.ADVERBS)))
        if room >= 1 and self.chance.happens(0.2):
            root.right.append(self.attached_phrase(room - 1, "obl"))

    # Nouns -------------------------------------------------------------------------------------

    def subject(self, room: int) -> Subject:
        """A subject: mostly a noun phrase, else a name, a pronoun or two things joined."""
        kind = self.chance.weighted({"noun": 7, "name": 1.2, "pronoun": 1.3, "both": 0.7})
        if kind == "name":
            return Subject(proper(self.chance.pick(self.vocabulary.names), "nsubj"), "Sing", "")
        number = self.number()
        if kind == "pronoun":
            form = self.chance.pick(lex.PRONOUNS[number])
            phrase = Node(form, form, "PRON", "nsubj", {"Case": "Nom", "Number": number})
            return Subject(phrase, number, form)
        if kind == "both":
            phrase = self.noun_phrase("Sing", "nsubj", 0, plain=True)
            other = self.noun_phrase(self.number(), "conj", 0, plain=True)
            other.left.insert(0, Node("and", "and", "CCONJ", "cc"))
            phrase.right.append(other)
            return Subject(phrase, "Plur", "they")
        phrase = self.noun_phrase(number, "nsubj", room)
        return Subject(phrase, number, pronoun_of(phrase.lemma, number))

    def object(self, subject: Subject, room: int) -> Node:
        """An object: a noun phrase, a name, or a word that points back at the subject."""
        kind = self.chance.weighted({"noun": 6, "name": 0.7, "owned": 1.5, "self": 0.6})
        if kind == "name":
            return proper(self.chance.pick(self.vocabulary.names), "obj")
        pronoun = subject.pronoun
        if kind == "self" and pronoun in REFLEXIVES:
            form = REFLEXIVES[pronoun]
            return Node(form, form, "PRON", "obj", {"Number": subject.number, "Reflex": "Yes"})
        if kind == "owned" and pronoun:
            owned = self.noun(self.number(), "obj")
            owner = lex.POSSESSIVES[pronoun]
            feats = {"Poss": "Yes", "Number": subject.number}
            owned.left.append(Node(owner, owner, "PRON", "nmod:poss", feats))
            return owned
        return self.noun_phrase(self.number(), "obj", room - 1)

    def noun_phrase(self, number: str, deprel: str, room: int, *, plain: bool = False) -> Node:
        """Determiner, numeral, adjectives, noun and, unless `plain`, what follows the noun."""
        root = self.noun(number, deprel)
        determiner = self.chance.pick(lex.DETERMINERS[number])
        root.left.append(Node(determiner, determiner, "DET", "det"))
        if number == "Plur" and determiner != "many" and self.chance.happens(0.12):
            numeral = self.chance.pick(lex.NUMERALS)
            root.left.append(Node(numeral, numeral, "NUM", "nummod"))
        qualities = [
            self.adjective("amod") for _ in range(self.chance.pick((0, 0, 0, 0, 0, 1, 1, 2)))
        ]
        root.left += {quality.form: quality for quality in qualities}.values()
        if plain or room < 1:
            return root
        if self.chance.happens(0.3):
            # Half of the nouns between a subject and its verb are of the other number.
            inner = OTHER[number] if self.chance.happens(0.5) else number
            root.right.append(self.attached_phrase(room - 1, "nmod", inner))
        elif self.chance.happens(0.22):
            root.right.append(self.relative(number, room - 1))
        return root

    def trade(self, number: str, deprel: str) -> Node:
        """``a sailor``, ``sailors``."""
        stem = self.chance.pick(lex.BEINGS)
        form = lex.plural(stem) if number == "Plur" else stem
        root = self.word(form, stem, "NOUN", deprel, Number=number)
        if number == "Sing":
            root.left.append(Node("a", "a", "DET", "det"))
        return root

    def attached_phrase(self, room: int, deprel: str, number: str | None = None) -> Node:
        """A preposition with its noun phrase: ``behind the old houses``."""
        root = self.noun_phrase(number or self.number(), deprel, room)
        word = self.chance.pick(lex.PREPOSITIONS)
        root.left.insert(0, Node(word, word, "ADP", "case"))
        return root

    def relative(self, number: str, room: int) -> Node:
        """``that chases the cats`` (agreeing with the noun) or ``that the cats chase``."""
        that = Node("that", "that", "PRON", "nsubj", {"PronType": "Rel"})
        if self.chance.happens(0.55):
            root = self.simple_predicate(Subject(that, number, ""), room, "acl:relcl")
            root.left.insert(0, that)
            return root
        that.deprel = "obj"
        subject = self.subject(0)
        root = self.verb_group(self.verb(lex.TRANSITIVE), subject, "acl:relcl")
        root.left[:0] = [that, subject.phrase]
        return root
