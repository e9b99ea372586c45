"""Every try of back-patching: states brought to earlier blocks, by continuing recorded passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.back_patches.back_patching_controls import Control
from layerscope.analyses.back_patches.back_patching_places import Pair, Places
from layerscope.analyses.back_patches.back_patching_table import NOISE, OTHER, OWN, Sweep, Tries
from layerscope.analyses.material.answers import AnswerBatch, Answers, extended, score
from layerscope.hooks.edits import set_to
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.replay import Recording, record

LOGIT_BYTES = 2**28
"""Logits that may be held at once."""
Name = TypeVar("Name", str, int)


@dataclass(eq=False)
class Trier:
    """Runs all tries, and counts what they cost."""

    model: nn.Module
    prompts: Prompts
    answers: Answers
    pairs: tuple[Pair, ...]
    generate: int = 0
    max_rows: int = 64
    tick: Callable[[int], Any] = lambda _: None
    """Told how many prompts are done."""
    evaluations: float = 0.0
    noise: float = 0.0
    """Largest difference between logits of a baseline in two batches."""
    notes: dict[str, None] = field(default_factory=dict)

    def sweeps(
        self, places: Mapping[Name, Places], controls: Mapping[Name, Sequence[Control]]
    ) -> dict[Name, Sweep]:
        """All pairs, for own states and for each control, at every place.

        Args:
            places: Name -> positions of each prompt.
            controls: Name of a place -> the controls to run there.
        """
        count, tries = len(self.prompts), len(self.pairs)
        found = {
            name: Sweep(Tries.empty(count, 1), _room(controls[name], count, tries))
            for name in places
        }
        done: set[int] = set()
        for work in self._work(tuple(places.values())):
            run = self._recorded(work)
            for name, where in places.items():
                at = where[int(work.prompt[0])]
                self._tries(run, work, at, controls[name], found[name])
            here = set(work.prompt.tolist())
            self.tick(len(here - done))
            done |= here
        return found

    def _work(self, places: Sequence[Places]) -> Iterator[_Work]:
        """Batches in which every prompt is patched at the same positions."""
        silent = set(range(len(self.prompts))) if self.generate else set()
        for batch in extended(self.prompts, self.answers, self.max_rows):
            speaks = bool(self.generate) and batch.k == 1
            for rows in _alike(batch.prompt.tolist(), places):
                part = _rows_of(batch, rows)
                yield _Work(part.input_ids, part.prompt, part, speaks)
            silent -= set(batch.prompt.tolist()) if speaks else set()
        for indices, given in self.prompts.batches(self.max_rows) if silent else ():
            here = [row for row, i in enumerate(indices.tolist()) if i in silent]
            for rows in _alike(indices[here].tolist(), places):
                chosen = torch.tensor(here)[rows]
                yield _Work(given["input_ids"][chosen], indices[chosen], None, True)

    def _recorded(self, work: _Work) -> Recording:
        run = record(self.model, {"input_ids": work.input_ids.to(device_of(self.model))})
        self.evaluations += run.n_blocks * len(run)
        return run

    def _tries(
        self,
        run: Recording,
        work: _Work,
        at: tuple[int, ...],
        controls: Sequence[Control],
        into: Sweep,
    ) -> None:
        own = torch.stack([_left(run, block, at) for block in range(run.n_blocks)])
        whose = work.prompt.tolist()
        states = [(into.tries[OWN][0], own)]
        drawn = {kind: iter(tries) for kind, tries in into.tries.items()}
        states += [(next(drawn[c.kind]), c.states(whose, own)) for c in controls]
        every = [(n, kind) for n in range(len(self.pairs)) for kind in range(len(states))]
        size = _tries_at_once(run, work)
        for start in range(0, len(every), size):
            self._some(run, work, at, every[start : start + size], states, into.before)

    def _some(
        self,
        run: Recording,
        work: _Work,
        at: tuple[int, ...],
        tries: Sequence[tuple[int, int]],
        states: Sequence[tuple[Tries, Tensor]],
        before: Tries,
    ) -> None:
        """Make some of the tries, (number of pair, number of states), and write down what came."""
        by_target = groupby(tries, key=lambda one: self.pairs[one[0]][1])
        changes: list[dict[int | str, Any]] = []
        of = []
        for target, members in by_target:
            chosen = [states[kind][1][self.pairs[n][0]] for n, kind in members]
            value = torch.cat(chosen)
            changes.append({f"blocks.{target}.resid_post": set_to(value, at=list(at))})
            of.append(torch.arange(len(run)).repeat(len(chosen)))
        if work.speaks:  # the baseline speaks as a what-if that changes nothing
            last = run.n_blocks - 1
            value = _left(run, last, at)
            changes.append({f"blocks.{last}.resid_post": set_to(value, at=list(at))})
            of.append(torch.arange(len(run)))
        out = run.lanes(changes, of=of, last=work.k, generate=self.generate if work.speaks else 0)
        self.evaluations += out.evaluations
        self.noise = max(self.noise, out.noise)
        self.notes |= dict.fromkeys((*run.notes, *out.notes))
        self._write(work, out.baseline[None], before, [0])
        logits = out.logits.unflatten(0, (-1, len(run)))
        texts = None if out.generated is None else out.generated.unflatten(0, (-1, len(run)))
        if texts is not None:
            self._hear(work, texts[-1:], before, [0])
        for kind, (into, _) in enumerate(states):
            rows = [row for row, (_, which) in enumerate(tries) if which == kind]
            numbers = [tries[row][0] for row in rows]
            if rows:
                self._write(work, logits[rows], into, numbers)
                if texts is not None:
                    self._hear(work, texts[rows], into, numbers)

    def _write(self, work: _Work, logits: Tensor, into: Tries, numbers: Sequence[int]) -> None:
        """Score `logits` ``[tries, b, k, vocab]`` and write them under the pairs' numbers."""
        batch = work.batch
        if batch is None:
            return
        said = logits[:, :, 0].argmax(-1).cpu().numpy()
        into.said[np.ix_(batch.prompt.tolist(), numbers)] = said.T
        ids = batch.answer_ids.to(logits.device)
        for number, one in zip(numbers, logits, strict=True):
            found = score(one[batch.row.to(one.device)], ids)
            whose = batch.prompt[batch.row].numpy()
            np.maximum.at(into.logprob[:, number], whose, found.logprob.double().cpu().numpy())
            np.minimum.at(into.rank[:, number], whose, found.rank.cpu().numpy())
            np.logical_or.at(into.likeliest[:, number], whose, found.correct.cpu().numpy())

    def _hear(self, work: _Work, ids: Tensor, into: Tries, numbers: Sequence[int]) -> None:
        """Look for the answers in new tokens ``[tries, b, g]``."""
        for number, rows in zip(numbers, ids.tolist(), strict=True):
            for prompt, new in zip(work.prompt.tolist(), rows, strict=True):
                into.text[prompt, number] = self._says(prompt, new)

    def _says(self, prompt: int, new: Sequence[int]) -> bool:
        new = _until_end(self.model, new)
        tokenizer = self.prompts.tokenizer
        if tokenizer is None:
            return any(_within(ids, new) for ids in self.answers.ids[prompt])
        text = tokenizer.decode(new, skip_special_tokens=True)
        return any(has_word(text, alias) for alias in self.answers.texts[prompt])


@dataclass(frozen=True, eq=False)
class _Work:
    """Prompts (continued by answers) of one length, patched at the same positions."""

    input_ids: Tensor
    prompt: Tensor
    batch: AnswerBatch | None
    """None: only to generate from."""
    speaks: bool
    """Whether these rows are the prompts alone, to generate from."""

    @property
    def k(self) -> int:
        return 1 if self.batch is None else self.batch.k


def _left(run: Recording, block: int, at: tuple[int, ...]) -> Tensor:
    """The stream that left a block at some positions, [b, k, d]."""
    return run[f"blocks.{block}.resid_post"][:, list(at)]


def _tries_at_once(run: Recording, work: _Work) -> int:
    """How many tries of a batch are made at once, so that their logits can be held."""
    return max(1, LOGIT_BYTES // (4 * len(run) * work.k * run.logits.shape[-1]))


def has_word(text: str, alias: str) -> bool:
    """Whether `alias` occurs in `text` as a whole word, whatever the case.

    >>> has_word("He is from the U.S.", "us"), has_word("It is Rome.", "rome")
    (False, True)
    """
    return re.search(rf"(?<!\w){re.escape(alias.strip())}(?!\w)", text, re.IGNORECASE) is not None


def _room(controls: Sequence[Control], prompts: int, tries: int) -> dict[str, list[Tries]]:
    kinds = [OWN, *(control.kind for control in controls)]
    room: dict[str, list[Tries]] = {kind: [] for kind in (OWN, OTHER, NOISE) if kind in kinds}
    for kind in kinds:
        room[kind].append(Tries.empty(prompts, tries))
    return room


def _alike(prompts: Sequence[int], places: Sequence[Places]) -> Iterator[list[int]]:
    """Rows of a batch whose prompts are patched at the same positions everywhere."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(tuple(where[prompt] for where in places), []).append(row)
    yield from groups.values()


def _rows_of(batch: AnswerBatch, rows: list[int]) -> AnswerBatch:
    """Only these rows, with the answers that are scored in them."""
    new = {old: number for number, old in enumerate(rows)}
    kept = [m for m, row in enumerate(batch.row.tolist()) if row in new]
    return AnswerBatch(
        input_ids=batch.input_ids[rows],
        prompt=batch.prompt[rows],
        length=batch.length,
        row=torch.tensor([new[int(batch.row[m])] for m in kept]),
        alternative=batch.alternative[kept],
        answer_ids=batch.answer_ids[kept],
    )


def _until_end(model: nn.Module, ids: Sequence[int]) -> list[int]:
    """Tokens before the first that ends a text."""
    config = getattr(model, "generation_config", None) or getattr(model, "config", None)
    end = getattr(config, "eos_token_id", None)
    ends = set(end) if isinstance(end, (list, tuple)) else {end}
    stop = next((n for n, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


def _within(part: Sequence[int], whole: Sequence[int]) -> bool:
    size = len(part)
    return any(tuple(whole[i : i + size]) == tuple(part) for i in range(len(whole) - size + 1))
