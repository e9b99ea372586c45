"""Answers as they continue their prompts, and how likely a model finds them.

An answer of several tokens is scored as a sequence: the sum of the log probabilities of its tokens,
each given the prompt and the answer's own earlier tokens (teacher forcing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.prompts import MAX_ROWS, Prompts

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Answers:
    """For each prompt the alternatives that count as right, as token ids after the prompt."""

    ids: tuple[tuple[Ids, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    """The same as the user wrote them; ids without a tokenizer as numbers."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(len(ids) for options in self.ids for ids in options)


@dataclass(frozen=True, eq=False)
class AnswerBatch:
    """Prompts of equal length, continued by all but the last token of answers of equal length."""

    input_ids: Tensor
    """`[n, p + k - 1]`; alternatives that share it (all of one token) share its row."""
    prompt: Tensor
    """`[n]` index of the prompt of each row."""
    length: int
    """p: tokens of the prompts; logits of the last k positions score the answers."""
    row: Tensor
    """`[m]` row of each answer."""
    alternative: Tensor
    """`[m]` which of its prompt's alternatives each answer is."""
    answer_ids: Tensor
    """`[m, k]`"""

    @property
    def k(self) -> int:
        """Tokens of the answers."""
        return self.answer_ids.shape[1]


@dataclass(frozen=True, eq=False)
class Score:
    """How a model rates n answers."""

    logprob: Tensor
    """`[n]` natural log, summed over the answer's tokens."""
    rank: Tensor
    """`[n]` tokens with a greater logit than the answer's first; 0 is the top, ties count for it."""
    correct: Tensor
    """`[n]` bool: every token of the answer is the likeliest there (greedy decoding finds it)."""

    @property
    def prob(self) -> Tensor:
        """`[n]` probability of the whole answer, 0 to 1."""
        return self.logprob.exp()


def as_answers(
    model: nn.Module, prompts: Prompts, answers: Sequence[Any], *, space: bool = True
) -> Answers:
    """Answers as the tokens that continue each prompt.

    A text is tokenised together with its prompt, so that it becomes the tokens the model would
    produce. Where the tokenizer then divides the prompt itself differently, the answer is tokenised
    as it follows another word, and the notes say so.

    Args:
        answers: One entry for each prompt: a text, a token id, a list of ids (one answer of several
            tokens), or a list of such entries (alternatives, any of which is right). Of a single
            prompt the text itself will do.
        space: Whether a space stands between prompt and answer; none is added where the prompt
            ends or the answer begins with one. Pass False for languages written without spaces.

    Raises:
        ValueError: not one entry for each prompt, an empty answer, a text without a tokenizer, or
            an answer that does not fit the context.
        TypeError: an entry that is no answer.
    """
    if isinstance(answers, str) and len(prompts) == 1:
        answers = [answers]
    if isinstance(answers, str) or len(answers) != len(prompts):
        count = "a single text" if isinstance(answers, str) else len(answers)
        raise ValueError(f"there are {len(prompts)} prompts, but the answers are {count}")
    reader = _Reader(model, prompts, space)
    found = [reader.alternatives(i, entry) for i, entry in enumerate(answers)]
    return Answers(
        tuple(tuple(options) for options in found),
        tuple(tuple(options.values()) for options in found),
        reader.notes(found),
    )


def extended(prompts: Prompts, answers: Answers, max_rows: int = MAX_ROWS) -> Iterator[AnswerBatch]:
    """Every prompt with every alternative, in batches of equal prompt and answer length."""
    groups: dict[tuple[int, int], dict[tuple[int, Ids], list[tuple[int, Ids]]]] = {}
    for i, options in enumerate(answers.ids):
        for which, ids in enumerate(options):
            group = groups.setdefault((len(prompts.ids[i]), len(ids)), {})
            group.setdefault((i, ids[:-1]), []).append((which, ids))
    for (length, _), group in groups.items():
        rows = list(group.items())
        for start in range(0, len(rows), max_rows):
            yield _batch(prompts, length, rows[start : start + max_rows])


def score(logits: Tensor, answer_ids: Tensor) -> Score:
    """Rate answers by the logits that predict their tokens.

    Args:
        logits: `[n, k, vocab]` at the last prompt token and all but the last answer token.
        answer_ids: `[n, k]`.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    ids = answer_ids.to(wide.device)[..., None]
    chosen = wide.gather(-1, ids)
    greater = (wide > chosen).sum(-1)
    logprob = wide.log_softmax(-1).gather(-1, ids)[..., 0].sum(-1)
    return Score(logprob, greater[:, 0], (wide.argmax(-1) == ids[..., 0]).all(-1))


class _Reader:
    """Turns what the user wrote into ids, and counts what is worth a note."""

    def __init__(self, model: nn.Module, prompts: Prompts, space: bool) -> None:
        self.model = type(model).__name__
        self.prompts = prompts
        self.space = space
        self.apart: list[str] = []
        self.encoded: dict[str, list[int]] = {}

    def alternatives(self, i: int, entry: Any) -> dict[Ids, str]:
        """Ids of each alternative, and how to show it; the same ids count once."""
        listed = isinstance(entry, (list, tuple, Tensor))
        several = listed and any(not _is_id(one) for one in entry)
        options = [self._one(i, one) for one in (entry if several else [entry])]
        found: dict[Ids, str] = {}
        for ids, text in options:
            self._require(i, ids)
            found.setdefault(ids, text)
        if not found:
            raise ValueError(
                f"prompt {i} ({self.prompts.texts[i][:60]!r}) has no answer; "
                "give a word, or several that are all right"
            )
        return found

    def notes(self, found: Sequence[dict[Ids, str]]) -> tuple[str, ...]:
        every = [ids for options in found for ids in options]
        long = sum(len(ids) > 1 for ids in every)
        notes = []
        if long:
            notes.append(
                f"{long} of {len(every)} answers are several tokens: they are scored as whole "
                "sequences (sum of log probabilities, each token given those before it)"
            )
        if self.apart:
            notes.append(
                f"{len(self.apart)} of {len(every)} answers were tokenised apart from their "
                f"prompts (such as {self.apart[0]!r}), because joined to the prompt the tokenizer "
                "divides the prompt itself differently"
            )
        return tuple(notes)

    def _one(self, i: int, answer: Any) -> tuple[Ids, str]:
        if isinstance(answer, str):
            return self._continuing(i, answer), answer
        if isinstance(answer, Tensor):
            answer = answer.tolist()
        ids = (answer,) if _is_id(answer) else answer
        if not isinstance(ids, (list, tuple)) or not all(_is_id(one) for one in ids):
            raise TypeError(
                f"the answer to prompt {i} is {answer!r}; give a text, a token id, a list of ids, "
                "or a list of alternatives"
            )
        plain = tuple(int(one) for one in ids)
        tokenizer = self.prompts.tokenizer
        text = " ".join(map(str, plain)) if tokenizer is None else tokenizer.decode(list(plain))
        return plain, text

    def _continuing(self, i: int, answer: str) -> Ids:
        if self.prompts.tokenizer is None:
            raise ValueError(
                f"answer {answer!r} is a text, and there is no tokenizer for {self.model}; pass "
                "tokenizer= (or the token id)"
            )
        if not answer.strip():
            raise ValueError(f"the answer to prompt {i} is empty: {answer!r}")
        own, text = self.prompts.ids[i].tolist(), self.prompts.texts[i]
        joined = self._encode(text + self._gap(text, answer) + answer)
        if joined[: len(own)] == own and len(joined) > len(own):
            return tuple(joined[len(own) :])
        self.apart.append(answer)
        return self._after_a_word(answer)

    def _after_a_word(self, answer: str) -> Ids:
        word = self._encode("a")
        joined = self._encode("a" + self._gap("a", answer) + answer)
        if joined[: len(word)] == word and len(joined) > len(word):
            return tuple(joined[len(word) :])
        alone = self._gap("a", answer) + answer
        return tuple(self.prompts.tokenizer(alone, add_special_tokens=False)["input_ids"])

    def _gap(self, before: str, answer: str) -> str:
        return " " if self.space and not (before[-1:].isspace() or answer[0].isspace()) else ""

    def _encode(self, text: str) -> list[int]:
        if text not in self.encoded:
            self.encoded[text] = list(self.prompts.tokenizer(text)["input_ids"])
        return self.encoded[text]

    def _require(self, i: int, ids: Ids) -> None:
        if not ids:
            raise ValueError(f"the answer to prompt {i} has no tokens")
        context, length = self.prompts.context, len(self.prompts.ids[i])
        if context is not None and length + len(ids) - 1 > context:
            raise ValueError(
                f"prompt {i} has {length} tokens and its answer {len(ids)}; together they are "
                f"longer than the context of {context}"
            )


def _is_id(one: Any) -> bool:
    if isinstance(one, Tensor):
        return one.ndim == 0
    return isinstance(one, int) and not isinstance(one, bool)


def _batch(
    prompts: Prompts, length: int, rows: Sequence[tuple[tuple[int, Ids], list[tuple[int, Ids]]]]
) -> AnswerBatch:
    inputs = [
        torch.cat([prompts.ids[i], torch.tensor(front, dtype=torch.long)]) for (i, front), _ in rows
    ]
    answers = [(row, *option) for row, (_, options) in enumerate(rows) for option in options]
    return AnswerBatch(
        input_ids=torch.stack(inputs),
        prompt=torch.tensor([i for (i, _), _ in rows]),
        length=length,
        row=torch.tensor([row for row, _, _ in answers]),
        alternative=torch.tensor([which for _, which, _ in answers]),
        answer_ids=torch.tensor([ids for _, _, ids in answers]),
    )
