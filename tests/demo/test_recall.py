"""Counting answers, on a planted model that knows exactly what we chose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.material.shares import wilson
from layerscope.demo import recall as module
from layerscope.demo import world
from layerscope.demo.recall import KINDS, RecallFinding, kind_of, recall
from layerscope.finding import Finding


class WordTokenizer:
    """One token for each word, and padding on the right."""

    def __init__(self) -> None:
        texts = [q.prompt + " " + q.answer for q in world.all_questions()]
        self.ids = {
            word: i for i, word in enumerate(sorted({w for t in texts for w in t.split()}), 1)
        }

    def __call__(self, texts: Any, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        if isinstance(texts, str):
            return {"input_ids": [self.ids[word] for word in texts.split()]}
        rows = [torch.tensor([self.ids[word] for word in text.split()]) for text in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Oracle(nn.Module):
    """Answers a prompt of `known` right; any other with token 0."""

    def __init__(self, known: list[world.Question]) -> None:
        super().__init__()
        tokenizer = WordTokenizer()
        self.size = len(tokenizer.ids) + 1
        self.table = {
            tuple(tokenizer(q.prompt)["input_ids"]): tokenizer.ids[q.answer] for q in known
        }

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, self.size)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            length = int(mask.sum())
            answer = self.table.get(tuple(ids[:length].tolist()), 0)
            logits[row, length - 1, answer] = 1.0
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def asked() -> list[world.Question]:
    return list(world.all_questions()[::7])


def test_a_planted_model_scores_what_it_knows(asked: list[world.Question]) -> None:
    unseen = [q for q in asked if kind_of(q) == KINDS[2]]
    known = [q for q in asked if kind_of(q) != KINDS[2]] + unseen[:40]
    finding = recall(Oracle(known), tokenizer=WordTokenizer(), questions=asked)
    values = dict(zip(finding.table["kind"], finding.table["value"], strict=True))
    assert values == {KINDS[0]: 1.0, KINDS[1]: 1.0, KINDS[2]: 40 / len(unseen)}
    assert f"{40 / len(unseen):.1%}" in finding.answer()


def test_guessing_is_counted_by_hand() -> None:
    pets = [q for q in world.all_questions() if q.hops == 1 and q.relations == ("pet",)]
    finding = recall(Oracle([]), tokenizer=WordTokenizer(), questions=pets)
    row = finding.table.iloc[0]
    answers = [q.answer for q in pets]
    assert row["value"] == 0
    assert row["chance"] == pytest.approx(1 / len(world.ATTRIBUTES["pet"]))
    assert row["baseline"] == max(answers.count(a) for a in answers) / len(answers)


def test_wilson_matches_the_textbook() -> None:
    # Agresti and Coull 1998 and statsmodels' proportion_confint(method="wilson").
    assert wilson(15, 20) == pytest.approx((0.531299, 0.888138), abs=1e-5)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10) == pytest.approx((1 - wilson(0, 10)[1], 1.0))


def test_an_answer_of_two_tokens_is_refused() -> None:
    class Letters(WordTokenizer):
        def __call__(self, texts: Any, **options: Any) -> dict[str, Any]:
            if isinstance(texts, str):
                return {"input_ids": list(range(len(texts)))}
            return super().__call__(texts, **options)

    with pytest.raises(ValueError, match=r"tokens for this tokenizer.*bundled tokenizer"):
        recall(Oracle([]), tokenizer=Letters(), questions=world.all_questions()[:3])


def test_the_finding_survives_saving(tmp_path: Any, asked: list[world.Question]) -> None:
    finding = recall(Oracle([]), tokenizer=WordTokenizer(), questions=asked)
    again = Finding.load(finding.save(tmp_path / "recall"))
    assert isinstance(again, RecallFinding)
    assert again.answer() == finding.answer()
    assert again.figure().data[0].y == pytest.approx(finding.figure().data[0].y)
    assert module.RecallFinding.question == again.question
