"""Runs programs of blocks on prompts, each prefix once: later programs go on from earlier ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layerscope.analyses.programs.program_tree import Program
from layerscope.hooks.replay import Recording
from layerscope.hooks.replaying.stage import Stage

BUDGET = 2**29
"""Bytes of remembered streams; the ones that were not used for longest are forgotten."""

Asked = tuple[int, Program]
"""A prompt of the recording, and what is run on it."""


@dataclass(eq=False)
class ProgramRunner:
    """A trie of programs for every prompt of a recording."""

    run: Recording
    last: int
    """Of how many last positions the logits are wanted."""
    budget: int = BUDGET
    evaluations: float = 0.0
    """Layer-evaluations so far."""
    _streams: OrderedDict[Asked, Tensor] = field(default_factory=OrderedDict)
    """What is known: prompt and prefix -> stream [p, d]."""

    def __call__(self, asked: Sequence[Asked]) -> Tensor:
        """`[n, last, vocab]` logits of each program on its prompt."""

        def play(stage: Stage) -> Tensor:
            return self._ends(stage, asked)

        logits = self.run.perform(play, last=self.last)
        assert logits is not None  # play always returns a stream
        return logits[:, logits.shape[1] - self.last :]

    def _ends(self, stage: Stage, asked: Sequence[Asked]) -> Tensor:
        """The stream at the end of each program; prefixes that are not known are run, as batches."""
        for prompt, _ in asked:
            self._streams.setdefault((prompt, ()), stage.stream[prompt])
        missing = self._missing(asked)
        while missing:
            ready = self._fullest(missing)
            streams = torch.stack([self._streams[prompt, path[:-1]] for prompt, path in ready])
            of = torch.tensor([prompt for prompt, _ in ready])
            before = stage.evaluations
            left = stage.block(ready[0][1][-1], streams, of)
            self.evaluations += stage.evaluations - before
            self._streams.update(zip(ready, left, strict=True))
            for node in ready:
                del missing[node]
        ends = torch.stack([self._streams[one] for one in asked])
        self._forget(asked)
        return ends

    def _missing(self, asked: Sequence[Asked]) -> dict[Asked, None]:
        """Every prefix that has to be run."""
        found: dict[Asked, None] = {}
        for prompt, program in asked:
            length = len(program)
            while (prompt, program[:length]) not in self._streams:
                found[prompt, program[:length]] = None
                length -= 1
        return found

    def _fullest(self, missing: dict[Asked, None]) -> list[Asked]:
        """Prefixes that can be run now and end in the same block: as many as there are."""
        groups: dict[int, list[Asked]] = {}
        for prompt, path in missing:
            if (prompt, path[:-1]) in self._streams:
                groups.setdefault(path[-1], []).append((prompt, path))
        return max(groups.values(), key=len)

    def _forget(self, asked: Sequence[Asked]) -> None:
        """Let go of what was not used for longest, where the budget is spent."""
        for prompt, program in asked:
            for length in range(len(program) + 1):
                self._streams.move_to_end((prompt, program[:length]))
        each = next(iter(self._streams.values()))
        room = max(1, self.budget // (each.numel() * each.element_size()))
        while len(self._streams) > room:
            self._streams.popitem(last=False)
