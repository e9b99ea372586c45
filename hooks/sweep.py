"""From what-ifs to batches and back: grouping, budget, checking against the record, falling back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm.auto import tqdm

from layerscope.hooks.decode import continue_from, continue_with_hooks, slots_of
from layerscope.hooks.edits import Change, Writer
from layerscope.hooks.inputs import Inputs
from layerscope.hooks.lanes import EachBlock, Lanes, Rows, rows_of
from layerscope.hooks.outcome import Outcome, Part, put_together
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.recording import NotReplayable, Pass, logits_of
from layerscope.hooks.stage import Stage
from layerscope.hooks.trust import differs, untrusted
from layerscope.hooks.watch import Listener, places
from layerscope.hooks.what_if import WhatIf, entry, stream_index


@dataclass(frozen=True, eq=False)
class Sweep:
    """What is asked of one sweep; see `Recording.lanes`."""

    what_ifs: Sequence[WhatIf]
    keep: Sequence[str]
    last: int | None
    generate: int
    each_block: EachBlock | None
    budget: int
    grad: bool
    progress: bool


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that are computed together, and from where."""

    where: Tensor
    rows: Rows
    begin: int
    offset: int


def sweep(
    work: Pass,
    asked: Sweep,
    stream: Sequence[Tensor] | None,
    logits: Tensor | None,
) -> tuple[Outcome, list[str]]:
    """Answer all what-ifs; also returns why blocks were not run one by one, if so."""
    reasons = _obstacles(work, asked)
    rows = rows_of(asked.what_ifs)
    with evaluating(work.model), torch.set_grad_enabled(asked.grad):
        parts: list[Part] = []
        if not reasons:
            try:
                parts = _all(work, asked, rows, stream, logits)
            except NotReplayable as why:
                reasons = [_said(str(why))]
        if reasons:
            parts = _all(work, asked, rows, None, logits, hooked=True)
    rejoined = min(part.offset for part in parts)
    outcome = put_together(
        parts,
        rows.of,
        rows.what_if,
        range(rejoined, work.positions),
        exact=not reasons,
        notes=[*work.inputs.notes, *reasons],
    )
    return outcome, reasons


def _obstacles(work: Pass, asked: Sweep) -> list[str]:
    """Why these what-ifs cannot be run block by block."""
    sites = [site for one in asked.what_ifs if one.start is None for site in one.changes]
    if sites:
        return [_said(f"a change at {sites[0]!r} is not inside one block")]
    why = untrusted(work)
    if not why and asked.generate and work.cache is None:
        why = f"{type(work.model).__name__} keeps no keys and values that can be handed on"
    return [_said(why)] if why else []


def _said(why: str) -> str:
    return f"not continued block by block but by whole passes with hooks: {why}"


def _all(
    work: Pass,
    asked: Sweep,
    rows: Rows,
    stream: Sequence[Tensor] | None,
    logits: Tensor | None,
    *,
    hooked: bool = False,
) -> list[Part]:
    batches = list(_batches(work, asked, rows, stream))
    parts = []
    for batch in tqdm(batches, desc="what-ifs", disable=not asked.progress, leave=False):
        run = _with_hooks if hooked else _by_blocks
        parts.append(run(work, asked, batch, stream, logits))
    return parts


def _batches(
    work: Pass, asked: Sweep, rows: Rows, stream: Sequence[Tensor] | None
) -> Iterator[Batch]:
    """Rows that begin at the same position go together; then as many as the budget allows."""
    offsets = _offsets(work, asked, stream)[rows.what_if]
    for offset in torch.unique(offsets).tolist():
        where = torch.nonzero(offsets == offset).flatten()
        size = max(1, asked.budget // _row_bytes(work, asked, offset))
        if len(where) > size:
            where = where[torch.argsort(rows.of[where], stable=True)]
        for chosen in where.split(size):
            chosen = chosen[torch.argsort(rows.start[chosen], stable=True)]
            part = rows[chosen]
            begin = 0 if stream is None else _begin(work, asked, part)
            yield Batch(chosen, part, begin, int(offset))


def _offsets(work: Pass, asked: Sweep, stream: Sequence[Tensor] | None) -> Tensor:
    """For each what-if the first position to compute."""
    length = work.positions
    earliest = torch.tensor([one.earliest(length) for one in asked.what_ifs])
    if stream is None or work.cache is None:
        return torch.zeros_like(earliest)
    wanted = length - (asked.last or 1)
    earliest = earliest.clamp(max=wanted)
    # Only last logits can be put together from rows that were computed from different positions.
    apart = asked.last is not None and not asked.keep and asked.each_block is None
    return earliest if apart else earliest.min().expand_as(earliest)


def _begin(work: Pass, asked: Sweep, rows: Rows) -> int:
    kept = [stream_index(site) for site in asked.keep]
    kept += [entry(work.model, site) for site in asked.keep]
    return min([int(rows.start.min()), *(index for index in kept if index is not None)])


def _row_bytes(work: Pass, asked: Sweep, offset: int) -> int:
    width = work.anatomy.width or work.inputs.first.shape[-1]
    config = getattr(work.model, "config", None)
    vocab = getattr(config, "vocab_size", 0) or 0
    computed = work.positions - offset
    answers = computed if asked.last is None else asked.last
    floats = computed * (16 * width + 4 * work.positions) + 2 * answers * vocab
    floats += 2 * work.positions * width * (work.blocks if asked.generate else 1)
    floats += computed * width * len(asked.keep)
    return 4 * floats


def _by_blocks(
    work: Pass,
    asked: Sweep,
    batch: Batch,
    stream: Sequence[Tensor] | None,
    logits: Tensor | None,
) -> Part:
    lanes = Lanes(
        asked.what_ifs,
        batch.rows,
        batch.begin,
        batch.offset,
        asked.keep,
        asked.each_block,
        head=asked.last != 0,
    )

    def play(stage: Stage) -> Tensor | None:
        return lanes.play(stage, *_first(stage, batch, stream))

    output, stage = work.perform(
        play,
        start=batch.offset,
        last=asked.last or None,
        caching=bool(asked.generate),
        around=[lanes.attached(work.model)],
    )
    if stream is not None:
        recorded = stream[-1][lanes.bases.to(stream[-1].device), batch.offset :]
        assert lanes.final is not None
        wrong = differs(lanes.final[: len(lanes.bases)], recorded)
        if wrong:
            raise NotReplayable(f"the baseline, run block by block, {wrong}")
    answers = _answers(work, asked, output, len(lanes.bases) + len(batch.rows))
    places_at = {s: lanes.places(_joins(work, s)) for s in asked.keep}
    generated = None
    if asked.generate:
        rows = slots_of(work, stage, lanes)
        generated = continue_from(
            work, rows, answers[len(lanes.bases) :, -1], batch.rows.of, asked.generate
        )
    return Part(
        where=batch.where,
        offset=batch.offset,
        bases=lanes.bases,
        logits=answers,
        kept={s: _rows(lanes.kept[s], at) for s, at in places_at.items()},
        base={s: lanes.kept[s][: len(lanes.bases)] for s in asked.keep},
        evaluations=stage.evaluations,
        block_calls=stage.block_calls,
        noise=_noise(answers[: len(lanes.bases)], logits, lanes.bases),
        generated=generated,
    )


def _first(
    stage: Stage, batch: Batch, stream: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """What enters the first block that runs, and what entered the one before it."""
    if stream is None:
        return stage.stream, None
    first = stream[batch.begin][:, batch.offset :]
    before = stream[batch.begin - 1][:, batch.offset :] if batch.begin else None
    return first, before


def _with_hooks(
    work: Pass,
    asked: Sweep,
    batch: Batch,
    stream: Sequence[Tensor] | None,
    logits: Tensor | None,
) -> Part:
    """The same by a whole pass over all rows, for models whose blocks cannot be run one by one."""
    lanes = Lanes(asked.what_ifs, replace_start(batch.rows), 0, 0)
    everything = torch.cat([lanes.bases, batch.rows.of])
    inputs = work.inputs.of(everything)
    changes = dict(lanes.within)
    for at_index in lanes.at_stream.values():
        for number, here in at_index.items():
            for site, change in here:
                changes.setdefault(site, []).append(change.on(lanes._rows_of(number)))
    seen: dict[str, Tensor] = {}
    streams = _streams(work) if asked.each_block is not None else {}
    wanted = places(work.model, [*asked.keep, *streams]) if asked.keep or streams else {}
    with ExitStack() as stack:
        stack.enter_context(Writer(work.model, changes).writing())
        if wanted:
            stack.enter_context(Listener(work.model, wanted, _into(seen)).listening())
        output = work.model(*inputs.args, **inputs.kwargs)
    answers = _answers(work, asked, output, len(everything))
    if asked.each_block is not None:
        marks = torch.cat([torch.full_like(lanes.bases, -1), batch.rows.what_if])
        for index in range(work.blocks):
            before, after = (seen[f"blocks.{index}.resid_{side}"] for side in ("pre", "post"))
            asked.each_block(index, before, after, marks)
    generated = None
    if asked.generate:
        generated = continue_with_hooks(work, inputs, changes, asked.generate, answers[:, -1])
        generated = generated[len(lanes.bases) :]
    return Part(
        where=batch.where,
        offset=batch.offset,
        bases=lanes.bases,
        logits=answers,
        kept={s: seen[s][len(lanes.bases) :] for s in asked.keep},
        base={s: seen[s][: len(lanes.bases)] for s in asked.keep},
        evaluations=float(len(everything) * work.blocks),
        block_calls=work.blocks,
        noise=_noise(answers[: len(lanes.bases)], logits, lanes.bases),
        generated=generated,
    )


def replace_start(rows: Rows) -> Rows:
    """The same rows, all there from the beginning."""
    return replace(rows, start=torch.zeros_like(rows.start))


def _into(seen: dict[str, Tensor]):  # type: ignore[no-untyped-def]
    def keep(site: str, x: Tensor, live: object) -> None:
        seen[site] = x if torch.is_grad_enabled() else x.detach().clone()

    return keep


def _streams(work: Pass) -> list[str]:
    return [f"blocks.{i}.resid_{side}" for i in range(work.blocks) for side in ("pre", "post")]


def _joins(work: Pass, site: str) -> int:
    """The residual index by which a row must have joined to be seen at a site."""
    index = stream_index(site)
    if index is None:
        index = entry(work.model, site)
    return work.blocks if index is None else index


def _answers(work: Pass, asked: Sweep, output: object, rows: int) -> Tensor:
    if output is None:
        return torch.zeros(rows, 0, 0)
    logits = logits_of(work, output)
    return logits if asked.last is None else logits[:, logits.shape[1] - asked.last :]


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.index_select(0, rows.to(x.device))


def _noise(answers: Tensor, logits: Tensor | None, bases: Tensor) -> float:
    if logits is None or not answers.numel():
        return float("nan")
    recorded = logits[bases.to(logits.device)]
    if answers.ndim > 2:
        recorded = recorded[:, recorded.shape[1] - answers.shape[1] :]
    return float((answers - recorded).detach().abs().max())


__all__ = ["Change", "Inputs", "Sweep", "sweep"]
