"""Searches programs for many prompts side by side; each has a tree of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.analyses.material.answers import AnswerBatch, Answers, Score, extended, score
from layerscope.analyses.material.shuffled_answers import Targets
from layerscope.analyses.programs.program_runner import ProgramRunner
from layerscope.analyses.programs.program_tree import Program, Rules, Tree
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.replay import record

AHEAD = 8
"""Programs that one prompt proposes before it hears of their rewards."""


@dataclass(frozen=True)
class Try:
    """One program on one prompt."""

    program: Program
    correct: bool
    logprob: float
    """Of the answer; of several alternatives that of the likeliest."""
    said: int
    """The token that the model found likeliest."""


@dataclass(eq=False)
class Searched:
    """All tries for one prompt, in order; the first is the untouched model."""

    prompt: int
    tries: list[Try] = field(default_factory=list)

    @property
    def best(self) -> Try | None:
        """The shortest right program; of several the likeliest."""
        right = [one for one in self.tries if one.correct]
        return min(right, key=lambda one: (len(one.program), -one.logprob), default=None)


@dataclass(eq=False)
class ProgramSearch:
    """One search for each prompt that has a target."""

    model: nn.Module
    prompts: Prompts
    targets: Targets
    rules: Rules
    tries: int
    seed: str
    evaluations: float = 0.0
    naive: float = 0.0
    noise: float = 0.0
    dropped: int = 0
    """Alternatives that would need a pass of their own."""

    def run(self, max_rows: int, progress: bool) -> list[Searched]:
        """The tries for each prompt, in the order of the prompts."""
        from tqdm.auto import tqdm

        found: list[Searched] = []
        with tqdm(
            total=len(self.targets), desc="programs", unit="prompt", disable=not progress
        ) as bar:
            for batch in extended(self.prompts, self._answers(), max_rows):
                found += self._batch(batch)
                bar.update(len(batch.prompt))
        return sorted(found, key=lambda one: one.prompt)

    def _answers(self) -> Answers:
        """Alternatives that share the pass of the first: those of one token, or that begin alike."""
        ids = []
        for i in range(len(self.prompts)):
            options = self.targets.get(i, ())
            kept = tuple(x for x in options if x[:-1] == options[0][:-1])
            self.dropped += len(options) - len(kept)
            ids.append(kept)
        return Answers(tuple(ids), tuple(tuple(map(str, options)) for options in ids))

    def _batch(self, batch: AnswerBatch) -> list[Searched]:
        run = record(self.model, batch.input_ids.to(device_of(self.model)))
        own = tuple(range(run.n_blocks))
        # Refuses models whose blocks cannot be run one by one, and measures the noise floor.
        self.noise = max(self.noise, run.program(own, last=batch.k).noise)
        self.evaluations += 2 * len(run) * run.n_blocks
        runner = ProgramRunner(run, batch.k)
        trees = [Tree(self.rules, f"{self.seed}/{int(i)}") for i in batch.prompt]
        found = [Searched(int(i)) for i in batch.prompt]
        asked = [(row, own) for row in range(len(trees))]
        while asked:
            rated = self._rated(batch, runner(asked), [row for row, _ in asked])
            for (row, program), one in zip(asked, rated, strict=True):
                found[row].tries.append(Try(program, *one))
                trees[row].tell(program, float(one[0]))
            asked = [
                (row, program)
                for row, tree in enumerate(trees)
                for program in proposals(tree, self.tries - len(found[row].tries))
            ]
        self.evaluations += runner.evaluations
        self.naive += sum(len(one.program) for searched in found for one in searched.tries)
        return found

    def _rated(
        self, batch: AnswerBatch, logits: Tensor, rows: Sequence[int]
    ) -> list[tuple[bool, float, int]]:
        """Whether right, log probability of the answer, and what was said, for each program."""
        which = torch.tensor(rows)
        said = logits[:, 0].argmax(-1).tolist()
        found: list[tuple[bool, float, int]] = []
        options = [torch.nonzero(batch.row == row).flatten() for row in range(len(batch.prompt))]
        lines = torch.cat([torch.full((len(options[r]),), n) for n, r in enumerate(rows)])
        answers = torch.cat([batch.answer_ids[options[r]] for r in rows])
        rated: Score = score(logits[lines.to(logits.device)], answers)
        for number in range(len(which)):
            mine = lines == number
            right = bool(rated.correct.cpu()[mine].any())
            found.append((right, float(rated.logprob.cpu()[mine].max()), said[number]))
        return found


def proposals(tree: Tree, left: int) -> list[Program]:
    """The next programs that a tree wants to try."""
    found: list[Program] = []
    while len(found) < min(AHEAD, left):
        program = tree.propose()
        if program is None:
            break
        found.append(program)
    return found


def costs(searches: Sequence[ProgramSearch]) -> dict[str, Any]:
    """What was computed, and what a pass for every program would have."""
    return {
        "layer_evaluations": round(sum(one.evaluations for one in searches), 3),
        "layer_evaluations_by_whole_passes": sum(one.naive for one in searches),
        "noise_floor": max((one.noise for one in searches), default=0.0),
    }
