"""Blocks in another order: skipped, repeated, moved; what programs begin with alike runs once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layerscope.hooks.edits import active
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replaying.decode import Tail, end_tokens
from layerscope.hooks.replaying.outcome import Outcome, answers_of, noise_of, same_length
from layerscope.hooks.replaying.recording import Pass, logits_of
from layerscope.hooks.replaying.stage import Stage, fresh_slot
from layerscope.hooks.replaying.trust import untrusted

Path = tuple[int, ...]


@dataclass(eq=False)
class Trie:
    """Every prefix of some programs, each computed once."""

    programs: Sequence[Path]
    slots: dict[Path, Any] = field(default_factory=dict)
    """The cache slot that the last visit of each prefix left behind."""
    ends: dict[Path, Tensor] = field(default_factory=dict)
    """The stream at the end of each program."""

    def play(self, stage: Stage) -> Tensor:
        """Run all prefixes, shortest first; all that go on with the same block as one batch."""
        states: dict[Path, Tensor] = {(): stage.stream}
        for depth in range(max(map(len, self.programs)) + 1):
            self.ends |= {p: states[p] for p in self.programs if len(p) == depth}
            nodes = {p[: depth + 1]: None for p in self.programs if len(p) > depth}
            following: dict[Path, Tensor] = {}
            for block in dict.fromkeys(node[-1] for node in nodes):
                mine = [node for node in nodes if node[-1] == block]
                following |= self._visited(stage, block, mine, states)
            states = following
        return torch.cat([self.ends[program] for program in self.programs])

    def _visited(
        self, stage: Stage, block: int, nodes: Sequence[Path], states: dict[Path, Tensor]
    ) -> dict[Path, Tensor]:
        of = torch.arange(stage.prompts).repeat(len(nodes))
        left = stage.block(block, torch.cat([states[node[:-1]] for node in nodes]), of)
        for number, node in enumerate(nodes):
            if stage.keep_slots:
                rows = torch.arange(stage.prompts) + number * stage.prompts
                whole = stage.filled[block]
                self.slots[node] = fresh_slot(whole, whole.get_seq_length(), rows)
        return dict(zip(nodes, left.split(stage.prompts), strict=True))


def programs(
    work: Pass,
    several: Sequence[Sequence[int]],
    *,
    last: int | None,
    generate: int,
    logits: Tensor | None,
) -> Outcome:
    """One row for each program and prompt; see `Recording.programs`."""
    paths = [_checked(work, program) for program in several]
    if not paths:
        raise ValueError("no program was given; a program is a sequence of block numbers")
    _require_trust(work)
    if active(work.model) and any(len(set(path)) < len(path) for path in paths):
        raise RuntimeError(
            "an edit is active, and it would be made at the first visit of a block only; run "
            "programs that repeat blocks outside of it"
        )
    if generate and work.cache is None:
        raise RuntimeError(
            f"{type(work.model).__name__} keeps no keys and values that can be handed on, so a "
            "program cannot be continued; leave out generate="
        )
    own = tuple(range(work.blocks))
    trie = Trie(list(dict.fromkeys([own, *paths])))
    with evaluating(work.model), torch.no_grad():
        output, stage = work.perform(trie.play, last=last, caching=bool(generate))
        answers = answers_of(work, output, 0, last)
        each = dict(zip(trie.programs, answers.split(work.inputs.prompts), strict=True))
        made = [_continued(work, trie, path, each[path], generate) for path in paths]
    return Outcome(
        logits=torch.cat([each[path] for path in paths]),
        baseline=each[own],
        of=torch.arange(work.inputs.prompts).repeat(len(paths)),
        what_if=torch.arange(len(paths)).repeat_interleave(work.inputs.prompts),
        positions=range(work.positions),
        noise=noise_of(each[own], logits, torch.arange(work.inputs.prompts)),
        evaluations=stage.evaluations,
        block_calls=stage.block_calls,
        exact=True,
        notes=work.inputs.notes,
        generated=torch.cat(same_length([x for x in made if x is not None])) if generate else None,
    )


def _checked(work: Pass, program: Sequence[int]) -> Path:
    path = tuple(int(block) for block in program)
    wrong = [block for block in path if not 0 <= block < work.blocks]
    if wrong:
        raise IndexError(
            f"block {wrong[0]} in program {list(path)}: {type(work.model).__name__} has blocks 0 to "
            f"{work.blocks - 1}"
        )
    return path


def _require_trust(work: Pass) -> None:
    why = untrusted(work)
    if why:
        raise RuntimeError(
            f"blocks of {type(work.model).__name__} cannot be run one by one ({why}); to leave "
            "blocks out, use lanes([{'blocks.3.resid_post': edits.skip()}])"
        )


def _continued(work: Pass, trie: Trie, path: Path, logits: Tensor, tokens: int) -> Tensor | None:
    """Greedy tokens of one program; each visit of a block reads and extends its own slot."""
    if not tokens:
        return None
    tail = Tail(work.inputs, end_tokens(work.model))
    tail.add(logits[:, -1].argmax(-1))
    slots = [
        fresh_slot(trie.slots[path[: n + 1]], work.positions, torch.arange(work.inputs.prompts))
        for n in range(len(path))
    ]

    def play(stage: Stage) -> Tensor:
        stream = stage.stream
        for block, slot in zip(path, slots, strict=True):
            stream = stage.block(block, stream, slot=slot)
        return stream

    outer = [
        fresh_slot(x, work.positions, torch.arange(work.inputs.prompts)) for x in work.cache.layers
    ]
    while tail.length < tokens and not tail.done:
        output = work.step(play, tail.step(), [copy(layer) for layer in outer])
        for layer in outer:
            layer.update(
                layer.keys[..., -1:, :], layer.values[..., -1:, :]
            )  # only its length counts
        tail.add(logits_of(work, output)[:, -1].argmax(-1))
    return tail.tokens
