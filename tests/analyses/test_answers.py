"""Answers become the tokens that continue their prompts, and scores agree with single passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.analyses.material.answers import as_answers, extended, score
from layerscope.demo import load_model, load_tokenizer
from layerscope.hooks.prompts import as_prompts

TEXTS = ["The friend of Anna is", "The city of the friend of Anna is", "The boss of Kate is"]


@pytest.fixture(scope="module")
def named() -> Any:
    return load_tokenizer()


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


def test_texts_continue_their_prompts(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS, named)
    answers = as_answers(model, prompts, ["Julia", ["Paris", " Paris", "London"], 475])
    for i, text in ((0, "Julia"), (1, "Paris")):
        whole = named(f"{TEXTS[i]} {text}")["input_ids"]
        assert [*prompts.ids[i].tolist(), *answers.ids[i][0]] == whole
    assert len(answers.ids[1]) == 2  # the same answer twice counts once
    assert answers.texts[1] == ("Paris", "London")
    assert answers.ids[2] == ((475,),)
    assert answers.texts[2] == (" Anna",)
    assert answers.notes == ()


def test_ids_are_one_answer_and_lists_of_ids_are_alternatives(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS, named)
    entries = [[475, 266], [[475], [475, 266]], torch.tensor([3, 4])]
    answers = as_answers(model, prompts, entries)
    assert answers.ids == (((475, 266),), ((475,), (475, 266)), ((3, 4),))
    assert answers.longest == 2
    assert "3 of 4 answers are several tokens" in answers.notes[0]


def test_a_prompt_that_ends_in_a_space_is_said(model: Any, named: Any) -> None:
    prompts = as_prompts(model, [f"{TEXTS[0]} "], named)
    answers = as_answers(model, prompts, ["Julia"])
    assert answers.ids[0][0] == tuple(named(" Julia", add_special_tokens=False)["input_ids"])
    assert (
        "1 of 1 answers were tokenised apart from their prompts (such as 'Julia')"
        in (answers.notes[0])
    )


def test_without_a_space_the_answer_joins_the_word(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS[:1], named)
    answers = as_answers(model, prompts, ["."], space=False)
    assert answers.ids == ((tuple(named(".", add_special_tokens=False)["input_ids"]),),)


def test_answers_that_cannot_be_are_refused(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS, named)
    with pytest.raises(ValueError, match="there are 3 prompts, but the answers are 2"):
        as_answers(model, prompts, ["a", "b"])
    with pytest.raises(ValueError, match="the answers are a single text"):
        as_answers(model, prompts, "abc")
    with pytest.raises(ValueError, match="the answer to prompt 1 is empty: ' '"):
        as_answers(model, prompts, ["a", " ", "b"])
    with pytest.raises(ValueError, match=r"the answer to prompt 0 has no tokens"):
        as_answers(model, prompts, [[], "a", "b"])
    with pytest.raises(TypeError, match=r"the answer to prompt 2 is 0\.5"):
        as_answers(model, prompts, ["a", "b", 0.5])
    ids = as_prompts(nn.Linear(2, 2), [[3, 4]])
    with pytest.raises(ValueError, match="answer 'Paris' is a text, and there is no tokenizer"):
        as_answers(nn.Linear(2, 2), ids, ["Paris"])
    full = as_prompts(model, ["The friend of Anna is. " * 60], named, too_long="truncate")
    with pytest.raises(ValueError, match=r"has 256 tokens and its answer 2; together .* of 256"):
        as_answers(model, full, [[3, 4]])


def test_scores_of_sequences_equal_the_chain_rule_token_by_token(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS, named)
    wanted = [["Julia", [475, 266, 262]], ["Paris", "Popocatepetl"], [265, 317]]
    answers = as_answers(model, prompts, wanted)
    seen = set()
    for batch in extended(prompts, answers, max_rows=2):
        assert len(batch.input_ids) <= 2
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids).logits[:, -batch.k :]
        got = score(logits[batch.row], batch.answer_ids)
        for line, row in enumerate(batch.row.tolist()):
            i, which = int(batch.prompt[row]), int(batch.alternative[line])
            assert batch.length == len(prompts.ids[i])
            expected = chain_rule(model, prompts.ids[i], answers.ids[i][which])
            assert float(got.logprob[line]) == pytest.approx(expected[0], abs=1e-4)
            assert float(got.prob[line]) == pytest.approx(math.exp(expected[0]), rel=1e-3)
            assert int(got.rank[line]) == expected[1]
            assert bool(got.correct[line]) == expected[2]
            seen.add((i, which))
    assert seen == {(i, j) for i in range(3) for j in range(len(answers.ids[i]))}


def chain_rule(model: Any, prompt: Any, answer: tuple[int, ...]) -> tuple[float, int, bool]:
    """One pass for each token."""
    total, rank, right = 0.0, -1, True
    ids = prompt.tolist()
    for token in answer:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        total += float(logits.log_softmax(-1)[token])
        rank = int((logits > logits[token]).sum()) if rank < 0 else rank
        right &= int(logits.argmax()) == token
        ids.append(token)
    return total, rank, right


def test_alternatives_of_one_token_share_their_row(model: Any, named: Any) -> None:
    prompts = as_prompts(model, TEXTS, named)
    answers = as_answers(model, prompts, [["Julia", "Anna", "Bert"]] * 3)
    batches = list(extended(prompts, answers))
    assert [len(b.input_ids) for b in batches] == [2, 1]
    assert [len(b.answer_ids) for b in batches] == [6, 3]
    assert batches[0].row.tolist() == [0, 0, 0, 1, 1, 1]


def test_ties_count_for_the_answer() -> None:
    logits = torch.tensor([[[1.0, 2.0, 2.0, 0.0]], [[1.0, 2.0, 2.0, 3.0]]])
    got = score(logits, torch.tensor([[2], [2]]))
    assert got.rank.tolist() == [0, 1]
    assert got.correct.tolist() == [False, False]


def test_a_sequence_is_right_only_when_every_token_is() -> None:
    logits = torch.eye(4)[None, :2].expand(3, 2, 4)
    got = score(logits, torch.tensor([[0, 1], [0, 2], [3, 1]]))
    assert got.correct.tolist() == [True, False, False]
    assert got.rank.tolist() == [0, 0, 1]
    token = [math.log(math.e / (math.e + 3)), math.log(1 / (math.e + 3))]
    assert got.logprob.tolist() == pytest.approx([2 * token[0], sum(token), sum(token)])
