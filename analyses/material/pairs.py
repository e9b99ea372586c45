"""Clean and corrupt prompts side by side, in batches that run at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.analyses.material.answers import Answers, as_answers, extended
from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.patches.answer_metric import Measure, metric_of
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts, as_prompts


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of equal length, with what scores them."""

    clean: Tensor
    """`[rows, p]` ids, the answer's earlier tokens included."""
    corrupt: Tensor
    measure: Measure

    @property
    def prompt(self) -> Tensor:
        """`[rows]` the pair of each row."""
        return self.measure.prompt


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of prompts of which one is answered right, and the metric that tells them apart."""

    clean: Prompts
    corrupt: Prompts
    answers: Answers | None
    metric: str
    device: torch.device
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clean)

    def batches(self, max_rows: int) -> Iterator[PairBatch]:
        """Every pair with every answer that is scored."""
        for prompt, clean, length, answers in self._groups(max_rows):
            corrupt = clean.clone()
            corrupt[:, :length] = torch.stack([self.corrupt.ids[i] for i in prompt.tolist()])
            measure = Measure(self.metric, len(self), prompt, answers)
            yield PairBatch(clean.to(self.device), corrupt.to(self.device), measure)

    def _groups(self, max_rows: int) -> Iterator[tuple[Tensor, Tensor, int, Any]]:
        if self.answers is None:
            for prompt, batch in self.clean.batches(max_rows):
                yield prompt, batch["input_ids"], batch["input_ids"].shape[1], None
        else:
            for scored in extended(self.clean, self.answers, max_rows):
                yield scored.prompt, scored.input_ids, scored.length, scored


def as_pairs(
    model: nn.Module,
    clean: Any,
    corrupt: Any,
    answers: Sequence[Any] | None,
    wrong: Sequence[Any] | None,
    *,
    metric: str | None,
    tokenizer: Any,
) -> Pairs:
    """Pairs as the analyses take them.

    Raises:
        ValueError: not as many corrupt as clean prompts, a pair of unequal lengths, answers that
            do not fit, a metric that needs more, a model that does not continue prompts.
    """
    one, two = as_prompts(model, clean, tokenizer), as_prompts(model, corrupt, tokenizer)
    name = metric_of(metric, answers=answers is not None, wrong=wrong is not None)
    _require_aligned(one, two)
    require_decoder(model, one)
    notes = tuple(dict.fromkeys([*one.notes, *two.notes]))
    scored = None
    if name != "kl":
        assert answers is not None
        scored, said = _scored(model, one, answers, wrong if name == "logit_diff" else None)
        notes += said
    return Pairs(one, two, scored, name, device_of(model), notes)


def _require_aligned(clean: Prompts, corrupt: Prompts) -> None:
    if len(clean) != len(corrupt):
        raise ValueError(f"there are {len(clean)} clean prompts and {len(corrupt)} corrupt ones")
    for i, (one, two) in enumerate(zip(clean.ids, corrupt.ids, strict=True)):
        if len(one) != len(two):
            raise ValueError(
                f"the prompts of pair {i} have {len(one)} and {len(two)} tokens, so their positions "
                f"do not correspond: {clean.tokens(i)} and {corrupt.tokens(i)}; exchange words of "
                "equally many tokens"
            )
    if all(torch.equal(a, b) for a, b in zip(clean.ids, corrupt.ids, strict=True)):
        raise ValueError(
            "clean and corrupt prompts are the same, so nothing can be restored; change in the "
            "corrupt ones what the answer depends on"
        )


def _scored(
    model: nn.Module, prompts: Prompts, answers: Sequence[Any], wrong: Sequence[Any] | None
) -> tuple[Answers, tuple[str, ...]]:
    """The first alternative of each answer; the wrong answer, where wanted, comes second."""
    right = as_answers(model, prompts, answers)
    notes = right.notes
    several = sum(len(options) > 1 for options in right.ids)
    if several:
        notes += (f"{several} prompts have several right answers; the first of each is scored",)
    ids = [options[:1] for options in right.ids]
    if wrong is not None:
        other = as_answers(model, prompts, wrong)
        notes += other.notes
        for i, (mine, options) in enumerate(zip(ids, other.ids, strict=True)):
            if mine[0] == options[0]:
                raise ValueError(
                    f"right and wrong answer of pair {i} are the same: {right.texts[i][0]!r}"
                )
        ids = [(*mine, options[0]) for mine, options in zip(ids, other.ids, strict=True)]
    texts = tuple(tuple(map(str, options)) for options in ids)
    return replace(right, ids=tuple(map(tuple, ids)), texts=texts, notes=()), notes
