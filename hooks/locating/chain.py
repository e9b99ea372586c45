"""The calls of a stack of blocks, linked by the numbers that one hands to the next."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from layerscope.hooks.locating.observe import Event, Observation, Seen, calls_of
from layerscope.hooks.locating.stacks import Stack


@dataclass(frozen=True, eq=False)
class Chain:
    """The calls of one stack in forward order."""

    stack: Stack
    events: tuple[Event, ...]
    entries: tuple[Seen, ...]
    """What enters each block: the residual stream."""
    exits: tuple[Seen, ...]
    """What leaves each block."""

    @property
    def whole(self) -> bool:
        """Whether each block but the last hands its output, unchanged, to the next."""
        return all(
            out.value == into.value for out, into in zip(self.exits, self.entries[1:], strict=False)
        )

    @property
    def idle(self) -> tuple[str, ...]:
        """Blocks of the stack that this pass did not call."""
        ran = {id(event.module) for event in self.events}
        pairs = zip(self.stack.paths, self.stack.modules, strict=True)
        return tuple(path for path, module in pairs if id(module) not in ran)


def best_chain(record: Observation, candidates: list[Stack]) -> Chain | None:
    """The first candidate whose blocks hand the stream on; else the first that ran at all.

    A container inside the blocks of a likelier one is a part of those blocks, not a rival.
    """
    chains: list[Chain] = []
    for stack in candidates:
        chain = chain_of(record, stack)
        if chain is not None and not any(stack.inside(other.stack) for other in chains):
            chains.append(chain)
    return next((chain for chain in chains if chain.whole), next(iter(chains), None))


def chain_of(record: Observation, stack: Stack) -> Chain | None:
    """The stack's calls; None if it never ran or its children take or return no tensor."""
    events = [e for e in calls_of(record, stack.modules) if e.inputs and e.outputs]
    events = [e for e in events if not any(e.within(other) for other in events)]
    if not events:
        return None
    joints = [_joint(event, after) for event, after in itertools.pairwise(events)]
    exits = [leave for leave, _ in joints]
    entries = [enter for _, enter in joints]
    # The outer ends carry the stream in the same place as the joints do.
    first = _same_item(events[0].inputs, entries[0] if entries else None)
    last = _same_item(events[-1].outputs, exits[-1] if exits else None)
    return Chain(stack, tuple(events), (first, *entries), (*exits, last))


def _joint(event: Event, after: Event) -> tuple[Seen, Seen]:
    """The output that the next block receives, if there is one; else the first of each."""
    pairs = ((x, y) for x in event.outputs for y in after.inputs if x.value == y.value)
    return next(pairs, (event.outputs[0], after.inputs[0]))


def _same_item(held: list[Seen], like: Seen | None) -> Seen:
    return next((s for s in held if like is not None and s.item == like.item), held[0])
