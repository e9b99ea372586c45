"""From the last block to the logits: final norm, unembedding, and what is done to its output.

What follows the unembedding is identified by an experiment: during the pass its output is replaced
by chosen numbers, and the logits that come out show the function between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.observe import Event, Observation, Seen
from layerscope.hooks.places import pick


@dataclass(frozen=True)
class Tail:
    """logits = f(unembedding): `formula` in words; `error` relative; None where not recognised."""

    formula: str | None
    error: float | None
    detail: str = ""


def staircase(output: Tensor) -> Tensor:
    """Numbers to put in place of the unembedding's output: sizes from 0.01 to 1,000, both signs."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(output.shape, generator=generator)
    rows = output.numel() // output.shape[-1]
    sizes = torch.logspace(-2, 3, rows).reshape(*output.shape[:-1], 1)
    return (noise * sizes).to(output.device, output.dtype)


def tail_of(given: Tensor, logits: Tensor) -> Tail:
    """What turned `given` (the unembedding's output) into `logits`: nothing, a scale, a soft cap."""
    if given.shape != logits.shape:
        return Tail(None, None, f"shape {tuple(given.shape)} became {tuple(logits.shape)}")
    epsilon = max(torch.finfo(given.dtype).eps, torch.finfo(logits.dtype).eps)
    u, l = (x.detach().to("cpu", torch.float64).reshape(-1, x.shape[-1]) for x in (given, logits))
    kept = l.isfinite() & (l > torch.finfo(torch.bfloat16).min / 2)
    masked = int((~kept).any(0).sum())
    note = f"{masked} vocabulary entries are masked" if masked else ""
    u, l = (torch.where(kept, x, 0.0) for x in (u, l))
    for formula, guess in _guesses(u, l):
        error = float(((guess - l).abs() / (l.abs() + u.abs() + 1e-6)).max())
        if error <= 16 * epsilon:
            return Tail(formula, error, note)
    return Tail(None, None, "the logits are another function of the unembedding's output")


def _guesses(u: Tensor, l: Tensor) -> list[tuple[str, Tensor]]:
    scale = float((u * l).sum() / (u * u).sum())
    cap = float(l.abs().max())
    small = (u.abs() < cap / 2) & (l.abs() < cap / 2)
    slope = _slope(u[small], torch.atanh(l[small] / cap) * cap) if cap else 0.0
    offset = (l - u).mean(0)
    times = "" if abs(slope - 1) < 1e-3 else f"{slope:.4g} * "
    if times == "":
        slope = 1.0
    cap = _rounded(cap)
    return [
        ("unembedding", u),
        (f"{scale:.6g} * unembedding", scale * u),
        (f"{cap:g} * tanh({times}unembedding / {cap:g})", cap * torch.tanh(slope * u / cap)),
        ("unembedding + a bias of its own", u + offset),
    ]


def _slope(u: Tensor, v: Tensor) -> float:
    total = float((u * u).sum())
    return float((u * v).sum()) / total if total else 0.0


def _rounded(cap: float) -> float:
    # tanh saturates just below the cap, so the largest logit is the cap to a few digits.
    return float(f"{cap:.5g}")


def final_norm(record: Observation, last: Event, stream: int) -> Event | None:
    """The norm outside the blocks that receives the last block's output."""
    for event in record.events:
        if event.start > last.end and event.is_norm and event.inputs[0].value == stream:
            return event
    return None


@dataclass(frozen=True, eq=False)
class Head:
    """The unembedding's call, and how its input comes from the stream."""

    event: Event
    route: str
    """In words: what the unembedding receives."""
    proven: bool


def head_of(
    record: Observation,
    declared: nn.Module | None,
    logits: Seen | None,
    norm: Event | None,
    stream: int,
) -> Head | None:
    """The declared output embedding if it ran, else the matrix whose product is the output."""
    calls = [e for e in record.events if e.module is declared and e.inputs]
    if not calls and logits is not None:
        calls = [
            e
            for e in record.events
            if e.is_leaf
            and e.inputs
            and any(s.value == logits.value for s in e.outputs)
            and any(p.ndim == 2 for p in e.module.parameters(recurse=False))
        ]
    if not calls:
        return None
    event = calls[-1]
    source = stream if norm is None else norm.outputs[0].value
    name = "the last resid_post" if norm is None else f"{norm.path}"
    route = _route(record, event, source, name)
    return Head(event, route or f"not {name}: something else happens in between", route is not None)


def _route(record: Observation, event: Event, source: int, name: str) -> str | None:
    """How the unembedding's input follows from `source`; None where that is not seen."""
    taken = event.inputs[0].value
    if taken == source:
        return name
    values = dict(enumerate(record.values))
    if values[taken].numel == values[source].numel:
        factor = _proportional(values[source].sample, values[taken].sample)
        if factor is not None:
            return f"{factor:.6g} * {name}"
    kept = _positions(record, source, taken)
    if kept is not None:
        return f"{name} at {kept}"
    passed = _modules_between(record, source, taken) or _module_around(record, event, source)
    return None if passed is None else f"{name} through {', '.join(passed)}"


def _proportional(x: Tensor, y: Tensor) -> float | None:
    factor = _slope(x, y)
    error = (y - factor * x).abs().max() / y.abs().max().clamp_min(1e-30)
    return factor if float(error) < 1e-2 and factor else None


def _positions(record: Observation, source: int, taken: int) -> str | None:
    """Which positions of a norm's output the unembedding takes, where it does not take all."""
    pools = (e.pooled for e in record.events if e.pooled and e.outputs[0].value == source)
    return next((name for held in pools for name, v in held.items() if v == taken), None)


def _modules_between(record: Observation, source: int, taken: int) -> list[str] | None:
    """Modules that lead from value `source` to value `taken`, outermost first found; at most six."""
    passed: list[str] = []
    for _ in range(6):
        makers = [e for e in record.events if any(s.value == taken for s in e.outputs) and e.inputs]
        if not makers:
            return None
        maker = min(makers, key=lambda e: (e.path.count("."), e.start))
        passed.insert(0, maker.path)
        held = {s.value for s in maker.inputs}
        if source in held:
            return passed
        taken = maker.inputs[0].value
    return None


def _module_around(record: Observation, event: Event, source: int) -> list[str] | None:
    """A head module that holds the unembedding and receives `source` itself."""
    for other in record.events:
        if event.within(other) and any(s.value == source for s in other.inputs):
            return [other.path]
    return None


def logits_seen(record: Observation) -> Seen | None:
    """The model's `logits`, or its only tensor where a plain module returns one."""
    root = record.events[0]
    named = next((s for s in root.outputs if s.item == "logits"), None)
    return named or next((s for s in root.outputs if s.item is None), None)


def logits_tensor(result: Any, seen: Seen) -> Tensor:
    return pick(result, seen.item)
