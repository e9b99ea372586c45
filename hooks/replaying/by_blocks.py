"""A batch of what-ifs, computed block by block from where each leaves the baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.hooks.replaying.batches import Batch, Recorded, Sweep
from layerscope.hooks.replaying.decode import continue_from, slots_of
from layerscope.hooks.replaying.lanes import Lanes
from layerscope.hooks.replaying.outcome import Part, answers_of, noise_of
from layerscope.hooks.replaying.recording import Pass
from layerscope.hooks.replaying.rewire import NotReplayable
from layerscope.hooks.replaying.stage import Stage
from layerscope.hooks.replaying.trust import differs
from layerscope.hooks.replaying.what_if import entry, stream_index


def by_blocks(work: Pass, asked: Sweep, batch: Batch, recorded: Recorded | None) -> Part:
    """The outcome of one batch.

    Raises:
        NotReplayable: the baseline does not come out as it was recorded.
    """
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
        return lanes.play(stage, *_first(stage, batch, recorded))

    output, stage = work.perform(
        play,
        start=batch.offset,
        last=asked.last or None,
        caching=bool(asked.generate),
        around=[lanes.attached(work.model)],
    )
    bases = len(lanes.bases)
    if recorded is not None:
        _require_baseline(lanes, recorded)
    logits = answers_of(work, output, bases + len(batch.rows), asked.last)
    generated = None
    if asked.generate:
        slots = slots_of(work, stage, lanes)
        generated = continue_from(
            work, slots, logits[bases:, -1], batch.rows.of, lanes.lasting(), asked.generate
        )
    if len(logits) != bases + len(batch.rows):
        raise NotReplayable(f"what follows the blocks made {len(logits)} answers of all rows")
    rows, base = _found(work, lanes, asked)
    return Part(
        where=batch.where,
        offset=batch.offset,
        bases=lanes.bases,
        logits=logits,
        kept={s: lanes.kept[s].index_select(0, at) for s, at in rows.items()},
        base={s: lanes.kept[s].index_select(0, at) for s, at in base.items()},
        evaluations=stage.evaluations,
        block_calls=stage.block_calls,
        noise=noise_of(logits[:bases], recorded.logits if recorded else None, lanes.bases),
        generated=generated,
    )


def _first(stage: Stage, batch: Batch, recorded: Recorded | None) -> tuple[Tensor, Tensor | None]:
    """What enters the first block that runs, and what entered the one before it."""
    if recorded is None:
        return stage.stream, None
    first = recorded.stream[batch.begin][:, batch.offset :]
    before = recorded.stream[batch.begin - 1][:, batch.offset :] if batch.begin else None
    return first, before


def _require_baseline(lanes: Lanes, recorded: Recorded) -> None:
    last = recorded.stream[-1]
    wanted = last[lanes.bases.to(last.device), lanes.offset :]
    if lanes.final is None:
        raise RuntimeError("the lanes were not played")
    wrong = differs(lanes.final[: len(lanes.bases)], wanted)
    if wrong:
        raise NotReplayable(f"the baseline, run block by block, {wrong}")


def _found(work: Pass, lanes: Lanes, asked: Sweep) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each kept site: where the rows, and where their baselines, are in what was heard there."""
    rows, base = {}, {}
    for site in asked.keep:
        index = stream_index(site)
        index = entry(work.model, site) if index is None else index
        outside = index is None  # not in the blocks: it has a row for each prompt
        device = lanes.kept[site].device
        rows[site] = (lanes.rows.of if index is None else lanes.places(index)).to(device)
        base[site] = (lanes.bases if outside else torch.arange(len(lanes.bases))).to(device)
    return rows, base
