"""A batch of what-ifs as whole passes with hooks, for what cannot be run block by block."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from layerscope.hooks.edits import Writer
from layerscope.hooks.listening.watch import watch
from layerscope.hooks.replaying.batches import Batch, Recorded, Sweep
from layerscope.hooks.replaying.decode import continue_with_hooks
from layerscope.hooks.replaying.lanes import Lanes, is_path, require_rows
from layerscope.hooks.replaying.outcome import Part, answers_of, noise_of
from layerscope.hooks.replaying.recording import Pass


def by_hooks(work: Pass, asked: Sweep, batch: Batch, recorded: Recorded | None) -> Part:
    """The outcome of one batch; all positions of all rows go through all blocks."""
    everywhere = replace(batch.rows, start=torch.zeros_like(batch.rows.start))
    lanes = Lanes(asked.what_ifs, everywhere, begin=0)
    bases = len(lanes.bases)
    rows = torch.cat([lanes.bases, batch.rows.of])
    inputs = work.inputs.of(rows)
    seen: dict[str, Tensor] = {}

    def hear(site: str, x: Tensor) -> None:
        require_rows(site, x, len(rows))
        if site in heard:
            seen[site] = x.clone() if torch.is_grad_enabled() else x.detach().clone()

    changes = lanes.everything()
    streams = _streams(work) if asked.each_block is not None else []
    heard = dict.fromkeys([*asked.keep, *streams])
    checked = dict.fromkeys([*heard, *filter(is_path, changes)])
    with ExitStack() as stack:
        stack.enter_context(Writer(work.model, changes).writing())
        if checked:
            stack.enter_context(watch(work.model, list(checked), hear))
        output = work.model(*inputs.args, **inputs.kwargs)
    logits = answers_of(work, output, len(rows), asked.last)
    if asked.each_block is not None:
        marks = torch.cat([torch.full_like(lanes.bases, -1), batch.rows.what_if])
        for index in range(work.blocks):
            before, after = (seen[f"blocks.{index}.resid_{side}"] for side in ("pre", "post"))
            asked.each_block(index, before, after, marks)
    generated = None
    if asked.generate:
        made = continue_with_hooks(work, inputs, changes, asked.generate, logits[:, -1])
        generated = made[bases:]
    return Part(
        where=batch.where,
        offset=0,
        bases=lanes.bases,
        logits=logits,
        kept={site: seen[site][bases:] for site in asked.keep},
        base={site: seen[site][:bases] for site in asked.keep},
        evaluations=float(len(rows) * work.blocks),
        block_calls=work.blocks,
        noise=noise_of(logits[:bases], recorded.logits if recorded else None, lanes.bases),
        generated=generated,
    )


def _streams(work: Pass) -> list[str]:
    return [f"blocks.{i}.resid_{side}" for i in range(work.blocks) for side in ("pre", "post")]
