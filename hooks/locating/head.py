"""From the last block to the unembedding: the final norm, and what lies between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from layerscope.hooks.locating.chain import Chain
from layerscope.hooks.locating.layout import tap_of
from layerscope.hooks.locating.observe import Event, Observation, Seen
from layerscope.hooks.places import Tap

Read = Callable[[list[Tap]], list[Tensor]]
"""Reads whole tensors in one more pass (the record holds samples only)."""


@dataclass(frozen=True, eq=False)
class Head:
    """The unembedding's call, and how its input comes from the stream."""

    event: Event
    route: str
    """In words: what the unembedding receives."""
    proven: bool


def final_norm(record: Observation, chain: Chain) -> Event | None:
    """The norm after the blocks that receives the last block's output."""
    last, stream = chain.events[-1], chain.exits[-1].value
    after = (e for e in record.events if e.start > last.end and e.is_norm)
    return next((e for e in after if e.inputs[0].value == stream), None)


def logits_seen(record: Observation) -> Seen | None:
    """The model's `logits`, or its only tensor where a plain module returns one."""
    returned = record.events[0].outputs
    named = (s for s in returned if s.item == "logits")
    return next(named, None) or next((s for s in returned if s.item is None), None)


def head_of(
    record: Observation,
    declared: nn.Module | None,
    norm: Event | None,
    chain: Chain,
    read: Read,
) -> Head | None:
    """The declared output embedding if it ran, else the matrix whose product is the output."""
    event = _unembedding(record, declared, chain)
    if event is None:
        return None
    source = norm.outputs[0] if norm else chain.exits[-1]
    owner = norm or chain.events[-1]
    name = norm.path if norm else "the last resid_post"
    route = _route(record, event, source, name)
    if route is None:
        route = _rows(read([tap_of(owner, source), tap_of(event, event.inputs[0])]), name)
    return Head(event, route or f"not {name}: something else lies between", route is not None)


def _unembedding(record: Observation, declared: nn.Module | None, chain: Chain) -> Event | None:
    calls = [e for e in record.events if e.module is declared and e.inputs]
    logits = logits_seen(record)
    if not calls and logits is not None:
        after = (e for e in record.events if e.start > chain.events[-1].end)
        made = (e for e in after if any(s.value == logits.value for s in e.outputs))
        calls = [e for e in made if e.is_leaf and e.inputs and _is_matrix(e.module)]
    return calls[-1] if calls else None


def _is_matrix(module: nn.Module) -> bool:
    return any(p.ndim == 2 for p in module.parameters(recurse=False))


def _route(record: Observation, event: Event, source: Seen, name: str) -> str | None:
    """How the unembedding's input follows from `source`; None where the record does not show it."""
    taken = event.inputs[0]
    if taken.value == source.value:
        return name
    factor = _proportional(record, source, taken)
    if factor is not None:
        return f"{factor:.6g} * {name}"
    through = _between(record, source.value, taken.value) or _around(record, event, source.value)
    return None if through is None else f"{name} through {', '.join(through)}"


def _proportional(record: Observation, source: Seen, taken: Seen) -> float | None:
    x, y = (record.values[s.value].sample for s in (source, taken))
    if source.shape != taken.shape:
        return None
    factor = float((x * y).sum() / (x * x).sum())
    error = float((y - factor * x).norm() / y.norm())
    return factor if error < 1e-2 else None


def _between(record: Observation, source: int, taken: int) -> list[str] | None:
    """Modules that lead from value `source` to value `taken`, at most six."""
    passed: list[str] = []
    for _ in range(6):
        makers = [e for e in record.events if any(s.value == taken for s in e.outputs) and e.inputs]
        if not makers:
            return None
        maker = min(makers, key=lambda e: (e.path.count("."), e.start))
        passed.insert(0, maker.path)
        if any(s.value == source for s in maker.inputs):
            return passed
        taken = maker.inputs[0].value
    return None


def _around(record: Observation, event: Event, source: int) -> list[str] | None:
    """A head module that holds the unembedding and receives `source` itself."""
    holders = (e for e in record.events if event.within(e))
    return next(([e.path] for e in holders if any(s.value == source for s in e.inputs)), None)


def _rows(tensors: list[Tensor], name: str) -> str | None:
    """Whether the unembedding takes some of the source's rows, or the same rows in another order."""
    source, taken = (x.detach().float().cpu() for x in tensors)
    if source.shape[-1] != taken.shape[-1]:
        return None
    if source.ndim == 3 and taken.ndim == 2:
        mean = source.mean(1)
        if mean.shape == taken.shape and (taken - mean).norm() <= 1e-2 * taken.norm():
            return f"the mean of {name} over positions"
    known = {row.numpy().tobytes(): i for i, row in enumerate(source.flatten(0, -2))}
    found = [known.get(row.numpy().tobytes()) for row in taken.flatten(0, -2)]
    if None in found:
        return None
    count, positions = len(known), source.shape[1]
    if len(found) == count:
        return f"{name}, its axes in another order"
    at = {i % positions for i in found if i is not None}
    which = f"position {at.pop()}" if len(at) == 1 else f"{len(found)} of its {count} rows"
    return f"{name} at {which}"
