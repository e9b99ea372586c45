"""Every generated sentence is a tree, agrees, and says what its labels say."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import islice

import pytest

from layerscope.demo import documents
from layerscope.demo import lexicon as lex
from layerscope.demo.chance import Chance
from layerscope.demo.trees import Node, Sentence, finished, to_conllu

SINGULAR = {"is", "was", "has", "does"}
PLURAL = {"are", "were", "have", "do"}


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    return [s for found in islice(documents.bundled().values(), 150) for s in found]


def dependents(sentence: Sentence, head: int) -> list[Node]:
    return [w for w, h in zip(sentence.words, sentence.heads, strict=True) if h == head]


def steps_to_root(sentence: Sentence, position: int) -> int:
    steps = 0
    while sentence.heads[position - 1] != 0:
        position = sentence.heads[position - 1]
        steps += 1
        assert steps <= len(sentence.words), "a cycle"
    return steps


def test_every_sentence_is_one_acyclic_tree(sentences: list[Sentence]) -> None:
    for sentence in sentences:
        assert sentence.heads.count(0) == 1
        assert sentence.words[sentence.heads.index(0)].deprel == "root"
        assert all(0 <= head <= len(sentence.words) for head in sentence.heads)
        assert max(steps_to_root(sentence, i) for i in range(1, len(sentence.words) + 1)) >= 1


def test_no_two_branches_cross(sentences: list[Sentence]) -> None:
    for sentence in sentences:
        arcs = [sorted(arc) for arc in enumerate(sentence.heads, 1) if arc[1]]
        assert not any(a < c < b < d for a, b in arcs for c, d in arcs)


def test_depth_is_spread() -> None:
    depths: defaultdict[int, int] = defaultdict(int)
    for found in islice(documents.bundled().values(), 60):
        for sentence in found:
            for position in range(1, len(sentence.words) + 1):
                depths[steps_to_root(sentence, position)] += 1
    total = sum(depths.values())
    assert sum(n for depth, n in depths.items() if depth >= 3) > 0.15 * total
    assert max(depths) >= 5


def number_shown(word: Node) -> str | None:
    """The number a finite verb's form shows, read from its spelling alone."""
    if word.form in SINGULAR | PLURAL:
        return "Sing" if word.form in SINGULAR else "Plur"
    return {lex.with_s(word.lemma): "Sing", word.lemma: "Plur"}[word.form]


def number_of(subject: Node) -> str:
    """The number of a subject, read from its spelling and its conjuncts."""
    if any(child.deprel == "conj" for child in subject.right):
        return "Plur"
    form = subject.form.lower()
    if subject.upos == "PRON":
        return "Plur" if form in lex.PRONOUNS["Plur"] else "Sing"
    if subject.upos == "PROPN":
        return "Sing"
    if lex.plural(subject.lemma) == subject.lemma:
        return subject.feats["Number"]
    return "Plur" if subject.form.lower() == lex.plural(subject.lemma) else "Sing"


def finite_with_subject(sentence: Sentence) -> list[tuple[Node, Node]]:
    """Each finite verb with the subject it must agree with: its clause's own, a conjunct's
    first half's, or the noun a relative clause hangs on."""
    found = []
    for position, word in enumerate(sentence.words, 1):
        if word.upos == "AUX":
            continue  # counted with the word it helps
        helpers = [d for d in dependents(sentence, position) if d.deprel in ("aux", "cop")]
        verb = helpers[0] if helpers else word
        if verb.feats.get("VerbForm") == "Fin":
            found.append((verb, subject_of(sentence, position)))
    return found


def subject_of(sentence: Sentence, position: int) -> Node:
    for child in dependents(sentence, position):
        if child.deprel == "nsubj":
            if child.feats.get("PronType") == "Rel":
                return sentence.words[sentence.heads[position - 1] - 1]
            return child
    assert sentence.words[position - 1].deprel == "conj", sentence.text
    return subject_of(sentence, sentence.heads[position - 1])


def test_every_verb_agrees_with_its_subject(sentences: list[Sentence]) -> None:
    shown = hidden = 0
    for sentence in sentences:
        for verb, subject in finite_with_subject(sentence):
            if "Number" in verb.feats:
                assert number_shown(verb) == verb.feats["Number"] == number_of(subject), (
                    sentence.text
                )
                shown += 1
            else:
                assert verb.feats["Number[subj]"] == number_of(subject), sentence.text
                hidden += 1
    assert shown > 700
    assert hidden > 400


def test_the_form_hides_the_number_it_is_said_to_hide(sentences: list[Sentence]) -> None:
    numbers: defaultdict[str, list[str]] = defaultdict(list)
    for sentence in sentences:
        for word in sentence.words:
            if "Number[subj]" in word.feats:
                assert "Number" not in word.feats
                numbers[word.form].append(word.feats["Number[subj]"])
    common = {form: found for form, found in numbers.items() if len(found) >= 10}
    assert set(lex.MODALS) <= set(common)
    assert all(set(found) == {"Sing", "Plur"} for found in common.values())


def test_nouns_of_the_other_number_stand_between_subject_and_verb(
    sentences: list[Sentence],
) -> None:
    between = 0
    for sentence in sentences:
        place = {id(word): index for index, word in enumerate(sentence.words)}
        for verb, subject in finite_with_subject(sentence):
            inside = sentence.words[place[id(subject)] + 1 : place[id(verb)]]
            nearest = [w for w in inside if w.upos == "NOUN"][-1:]
            between += any(w.feats["Number"] != number_of(subject) for w in nearest)
    assert between > 100


def test_half_of_the_attached_nouns_are_of_the_other_number(sentences: list[Sentence]) -> None:
    differs = [
        word.feats["Number"] != sentence.words[head - 1].feats["Number"]
        for sentence in sentences
        for word, head in zip(sentence.words, sentence.heads, strict=True)
        if word.deprel == "nmod"
    ]
    assert 0.4 < sum(differs) / len(differs) < 0.6


def test_ambiguous_and_invented_forms_occur_in_several_classes() -> None:
    classes: defaultdict[str, set[str]] = defaultdict(set)
    invented: set[str] = set()
    for found in documents.bundled().values():
        for word in (w for s in found for w in s.words if "Reading" in w.feats):
            assert word.feats["Reading"] == word.upos
            if "Invented" in word.feats:
                invented.add(word.upos)
            else:
                classes[word.form.lower()].add(word.upos)
    assert invented == {"NOUN", "VERB"}
    several = [form for form, found in classes.items() if len(found) >= 2]
    assert set(several) <= lex.ambiguous_forms()
    assert len(several) >= 0.9 * len(lex.ambiguous_forms())
    assert classes["light"] == {"NOUN", "VERB", "ADJ"}


def test_the_same_seed_gives_the_same_document_and_another_seed_another() -> None:
    texts = [[s.text for s in documents.document(seed)] for seed in ("a", "a", "b")]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_known_sentence_in_conllu() -> None:
    house = Node("house", "house", "NOUN", "obj", {"Number": "Sing"})
    house.left = [Node("a", "a", "DET", "det"), Node("old", "old", "ADJ", "amod")]
    root = Node("see", "see", "VERB", "root", {"Number": "Plur", "Mood": "Ind"})
    root.left = [Node("we", "we", "PRON", "nsubj")]
    root.right = [house, Node(".", ".", "PUNCT", "punct")]
    sentence = finished(root)
    assert sentence.text == "We see an old house."
    assert sentence.heads == (2, 0, 5, 5, 2, 2)
    lines = to_conllu(sentence, "s1").splitlines()
    assert lines[:2] == ["# sent_id = s1", "# text = We see an old house."]
    assert lines[3] == "2\tsee\tsee\tVERB\t_\tMood=Ind|Number=Plur\t0\troot\t_\t_"
    assert lines[6] == "5\thouse\thouse\tNOUN\t_\tNumber=Sing\t2\tobj\t_\tSpaceAfter=No"


def test_conllu_columns_rebuild_the_text(sentences: list[Sentence]) -> None:
    for sentence in sentences[:300]:
        lines = to_conllu(sentence, "x").splitlines()
        rows = [line.split("\t") for line in lines if re.match(r"\d", line)]
        rebuilt = "".join(row[1] + ("" if row[9] == "SpaceAfter=No" else " ") for row in rows)
        assert rebuilt.rstrip() == sentence.text == lines[1].removeprefix("# text = ")
        assert tuple(int(row[6]) for row in rows) == sentence.heads
        for row, word in zip(rows, sentence.words, strict=True):
            feats = {} if row[5] == "_" else dict(pair.split("=") for pair in row[5].split("|"))
            assert feats == word.feats
            assert list(feats) == sorted(feats, key=str.lower)


@pytest.mark.parametrize(
    ("stem", "s_form", "past", "participle", "gerund"),
    [
        ("watch", "watches", "watched", "watched", "watching"),
        ("carry", "carries", "carried", "carried", "carrying"),
        ("play", "plays", "played", "played", "playing"),
        ("dance", "dances", "danced", "danced", "dancing"),
        ("run", "runs", "ran", "run", "running"),
        ("see", "sees", "saw", "seen", "seeing"),
    ],
)
def test_inflection(stem: str, s_form: str, past: str, participle: str, gerund: str) -> None:
    found = (lex.with_s(stem), lex.past(stem), lex.participle(stem), lex.gerund(stem))
    assert found == (s_form, past, participle, gerund)


def test_choices_follow_their_weights() -> None:
    chance = Chance("weights")
    draws = [chance.weighted({"a": 3, "b": 0, "c": 1}) for _ in range(4000)]
    assert "b" not in draws
    assert abs(draws.count("a") / 4000 - 0.75) < 0.03
    assert sorted(chance.shuffled(range(20))) == list(range(20))
