"""One number for how far a model is on the side of the right answer, for each prompt."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from layerscope.analyses.material.answers import AnswerBatch, score

METRICS = {
    "logit_diff": "log p(answer) - log p(wrong answer)",
    "logprob": "log p(answer)",
    "prob": "p(answer)",
    "kl": "KL(clean || patched), nats",
}
"""Metric -> what it is; for answers of one token `logit_diff` is the difference of two logits."""


def metric_of(name: str | None, *, answers: bool, wrong: bool) -> str:
    """The metric that was asked for, or the best one that what was given allows.

    Raises:
        ValueError: an unknown metric, or one that needs answers that were not given.
    """
    if name is None:
        return "logit_diff" if wrong else "logprob" if answers else "kl"
    if name not in METRICS:
        raise ValueError(f"metric={name!r} is unknown; there are {', '.join(METRICS)}")
    if name == "logit_diff" and not wrong:
        raise ValueError("metric='logit_diff' compares two answers; give the wrong ones too")
    if name != "kl" and not answers:
        raise ValueError(f"metric={name!r} needs answers; without them there is metric='kl'")
    return name


@dataclass(frozen=True, eq=False)
class Measure:
    """The metric on one batch of prompts."""

    name: str
    prompts: int
    """How many prompts there are in all."""
    prompt: Tensor
    """`[rows]` prompt of each row of the batch."""
    answers: AnswerBatch | None
    """None for ``"kl"``."""
    reference: Tensor | None = None
    """`[rows, vocab]` clean log probabilities at the last position, for ``"kl"``."""

    @property
    def last(self) -> int:
        """Of how many last positions the logits are needed."""
        return 1 if self.answers is None else self.answers.k

    def __call__(self, logits: Tensor) -> Tensor:
        """`[what-ifs, prompts]`: what this batch adds to the metric of each prompt, in float64.

        The rows of one prompt's right and wrong answer may be in different batches; their
        contributions add up. Differentiable.

        Args:
            logits: `[what-ifs * rows, last, vocab]`, what-ifs first.
        """
        wide = logits.double()
        if self.answers is None:
            return self._added(self._divergence(wide[:, -1]), self.prompt)
        rows = len(self.answers.input_ids)
        count = len(wide) // rows
        chosen = wide.unflatten(0, (count, rows))[:, self.answers.row].flatten(0, 1)
        rated = score(chosen, self.answers.answer_ids.repeat(count, 1))
        value = rated.prob if self.name == "prob" else rated.logprob
        sign = 1 - 2 * self.answers.alternative.to(value)  # the wrong answer is the second
        value = value.unflatten(0, (count, -1)) * sign
        return self._added(value, self.answers.prompt[self.answers.row])

    def _divergence(self, last: Tensor) -> Tensor:
        assert self.reference is not None
        clean = self.reference.double()
        other = last.log_softmax(-1).unflatten(0, (-1, len(clean)))
        found: Tensor = (clean.exp() * (clean - other)).sum(-1)
        return found

    def _added(self, value: Tensor, prompt: Tensor) -> Tensor:
        empty = value.new_zeros(len(value), self.prompts)
        return empty.index_add(1, prompt.to(value.device), value)
