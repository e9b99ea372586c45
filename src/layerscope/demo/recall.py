"""How much of its small world the bundled model knows: facts, and facts of facts."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.material.shares import wilson
from layerscope.demo import world
from layerscope.finding import Finding, Provenance
from layerscope.wording import percent

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import nn

KINDS = ("one hop", "two hops, seen", "two hops, unseen")
NAMES = dict(
    zip(
        KINDS,
        (
            "its facts",
            "the chains of two facts it has seen",
            "the chains of two facts it has never seen",
        ),
        strict=True,
    )
)
"""Kinds in words."""


@dataclass(frozen=True)
class RecallFinding(Finding):
    """Accuracy for each kind of question, with the accuracy of guessing beside it.

    Columns: ``kind``, ``value`` (share answered with the right next token), ``ci_low`` and
    ``ci_high`` (Wilson, 95 %), ``chance`` (one over the possible answers), ``baseline`` (always
    the commonest answer to the relation asked for last), ``n`` and ``unit``.
    """

    question: ClassVar[str] = "Does the model know its facts, and can it chain two of them?"

    def answer(self) -> str:
        """The three accuracies, and guessing."""
        parts = [
            f"{row.kind}: {row.value:.1%} [{row.ci_low:.1%}, {row.ci_high:.1%}] of {row.n:,}"
            f" (guessing {row.baseline:.1%})"
            for row in self.table.itertuples()
        ]
        return "Right next word after the prompt: " + "; ".join(parts) + "."

    def gist(self) -> str:
        """In one sentence."""
        line = self.table.iloc[-1]
        if line["ci_low"] <= line["baseline"]:
            said = f"The model gets {NAMES[line['kind']]} right no more often than guessing"
            return f"{said}: {percent(line['value'])} against {percent(line['baseline'])}."
        first = self.table.iloc[0]
        own = f"{percent(first['value'])} of {NAMES[first['kind']]} right"
        if len(self.table) > 1:
            own += f", and {percent(line['value'])} of {NAMES[line['kind']]}"
        return f"The model gets {own}; guessing gets {percent(line['baseline'])}."

    def figure(self) -> go.Figure:
        """A bar for each kind with its interval, and a mark for guessing."""
        import plotly.graph_objects as go

        from layerscope.theme import COLORS, themed

        table = self.table
        error = {
            "array": table["ci_high"] - table["value"],
            "arrayminus": table["value"] - table["ci_low"],
        }
        figure = go.Figure(
            [
                go.Bar(
                    x=table["kind"],
                    y=table["value"],
                    error_y=error,
                    name="model",
                    marker_color=COLORS["value"],
                    customdata=table["n"],
                    hovertemplate="%{x}: %{y:.1%} of %{customdata} questions<extra></extra>",
                ),
                go.Bar(
                    x=table["kind"],
                    y=table["baseline"],
                    name="commonest answer",
                    marker_color=COLORS["baseline"],
                    hovertemplate="guessing %{y:.1%}<extra></extra>",
                ),
            ]
        )
        figure.update_yaxes(title="share answered right", range=[0, 1.02], tickformat=".0%")
        return themed(figure)


def recall(
    model: nn.Module,
    *,
    tokenizer: Any = None,
    questions: Sequence[world.Question] | None = None,
) -> RecallFinding:
    """Ask every question and count the answers that are the likeliest next token.

    Args:
        model: a causal language model that knows the small world; usually the bundled one.
        tokenizer: defaults to the bundled one.
        questions: defaults to all of them; a sample gives wider intervals.

    Raises:
        ValueError: an answer is more than one token for this tokenizer.
    """
    import pandas as pd

    from layerscope.demo import load_tokenizer

    start = time.monotonic()
    asked = world.all_questions() if questions is None else tuple(questions)
    tokenizer = load_tokenizer() if tokenizer is None else tokenizer
    right = dict(zip(asked, answered(model, tokenizer, asked), strict=True))
    rows = [_row(kind, right) for kind in KINDS if any(kind_of(q) == kind for q in asked)]
    return RecallFinding(
        table=pd.DataFrame(rows),
        provenance=Provenance(
            model=type(model).__name__,
            data=f"small world, {len(asked):,} questions",
            parameters={"questions": len(asked)},
            seconds=time.monotonic() - start,
        ),
        notes=(
            (
                "Unseen two-hop questions never occur in training, though both of their facts do; "
                "the person in the middle is not named in the question."
            ),
            "Intervals treat questions as independent; questions that share a fact are not quite.",
        ),
    )


def kind_of(question: world.Question) -> str:
    """The kind a question is counted under."""
    if question.hops == 1:
        return KINDS[0]
    return KINDS[1] if question.seen else KINDS[2]


def answered(model: nn.Module, tokenizer: Any, questions: Sequence[world.Question]) -> list[bool]:
    """For each question, whether the likeliest next token is the answer's."""
    import torch

    right: list[bool] = []
    for start in range(0, len(questions), 256):
        part = questions[start : start + 256]
        batch = tokenizer([q.prompt for q in part], padding=True, return_tensors="pt")
        last = batch["attention_mask"].sum(1) - 1
        with torch.no_grad():
            logits = model(**batch).logits[torch.arange(len(part)), last]
        wanted = [answer_token(tokenizer, q.answer) for q in part]
        right += [a == int(b) for a, b in zip(wanted, logits.argmax(-1), strict=True)]
    return right


def answer_token(tokenizer: Any, answer: str) -> int:
    """The one token of an answer, as it follows the prompt after a space."""
    ids = tokenizer(" " + answer, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"{answer!r} is {len(ids)} tokens for this tokenizer; the next-token accuracy needs "
            "answers of one token, so use the bundled tokenizer"
        )
    return int(ids[0])


def _row(kind: str, right: dict[world.Question, bool]) -> dict[str, Any]:
    asked = [q for q in right if kind_of(q) == kind]
    count = sum(right[q] for q in asked)
    low, high = wilson(count, len(asked))
    return {
        "kind": kind,
        "value": count / len(asked),
        "ci_low": low,
        "ci_high": high,
        "chance": sum(1 / len(world.candidates(q.relations[-1])) for q in asked) / len(asked),
        "baseline": _commonest(asked),
        "n": len(asked),
        "unit": "share of questions",
    }


def _commonest(questions: Sequence[world.Question]) -> float:
    """Accuracy of always giving the commonest answer to the relation that is asked for last."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.relations[-1]][question.answer] += 1
    return sum(max(c.values()) for c in counts.values()) / len(questions)
