"""The small world: consistent facts, and a split that no sentence crosses."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from layerscope.demo import train, world
from layerscope.demo.chance import Chance


def test_two_hop_answers_follow_the_facts() -> None:
    table = world.facts()
    for q in world.all_questions():
        if q.hops == 1:
            assert q.answer == table[q.relations[0], q.start]
            assert q.bridge is None
            assert q.prompt == f"The {q.relations[0]} of {q.start} is"
        else:
            first, second = q.relations
            assert q.bridge == table[first, q.start]
            assert q.answer == table[second, q.bridge]
            assert q.prompt == f"The {second} of the {first} of {q.start} is"
        assert q.answer in world.candidates(q.relations[-1])


def test_counts_and_splits() -> None:
    counts = Counter((q.hops, q.seen) for q in world.all_questions())
    people, relations = len(world.NAMES), len(world.PERSON_RELATIONS)
    every = relations + len(world.ATTRIBUTES)
    assert counts[1, True] == people * every
    assert counts[1, False] == 0
    two = counts[2, True] + counts[2, False]
    assert two == people * relations * every
    assert abs(counts[2, False] / two - world.HELD_OUT) < 0.03


def test_no_name_or_prompt_is_used_twice() -> None:
    prompts = [q.prompt for q in world.all_questions()]
    assert len(set(prompts)) == len(prompts)
    assert len(set(world.NAMES)) == len(world.NAMES)


def sentence(question: world.Question) -> str:
    return question.prompt + question.completion


def test_training_shows_every_seen_question_and_no_unseen_one() -> None:
    facts = islice(train.shuffled_facts(Chance("test")), 10_000)
    shown = {prompt + completion for prompt, completion in facts}
    assert shown == {sentence(q) for q in world.all_questions() if q.seen}
    assert not shown & {sentence(q) for q in world.all_questions() if not q.seen}


def test_unseen_questions_do_not_occur_in_the_training_texts() -> None:
    unseen = {q.prompt for q in world.all_questions() if not q.seen}
    texts = islice(train.training_texts(train.Settings()), 3000)
    text = "\n".join(prompt + completion for prompt, completion in texts)
    assert not any(prompt in text for prompt in unseen)
    assert sum(q.prompt in text for q in world.all_questions()) > 500
