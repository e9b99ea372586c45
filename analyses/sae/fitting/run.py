"""One training from what was asked to finished SAEs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.fitting import memory
from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.checkpoint import header_of
from layerscope.analyses.sae.fitting.finished import give_back, keep, open_folder
from layerscope.analyses.sae.fitting.history import finding
from layerscope.analyses.sae.fitting.loop import Training
from layerscope.analyses.sae.fitting.origin import about_of, seen_rows
from layerscope.analyses.sae.fitting.roles import listed, refuse_several, roles
from layerscope.analyses.sae.rows.open import rows_of
from layerscope.analyses.sae.sae import SAE

STATISTICS = 16_384
"""Rows from which the statistics are taken that an SAE keeps."""


def run(
    data: Any,
    site: int | str | Sequence[int | str] | None,
    target: int | str | None,
    *,
    single: bool,
    corpus: Any,
    tokenizer: Any,
    reservoir_rows: int | None,
    to: str | Path | None,
    device: str | torch.device | None,
    progress: bool,
    seed: int | Sequence[int],
    architecture: str | Architecture,
    **options: Any,
) -> tuple[SAE, ...]:
    """Train as `train` (single) or `train_together` were asked; the rest of `options` is the plan's."""
    started = time.perf_counter()
    asked = listed(site) if target is None else [*listed(site), target]
    first = seed if isinstance(seed, int) else seed[0]
    where = device if device is not None or isinstance(data, nn.Module) else _best_device()
    with rows_of(
        data,
        asked or None,
        corpus=corpus,
        tokenizer=tokenizer,
        reservoir_rows=reservoir_rows,
        seed=first,
        device=where,
    ) as rows:
        joined = getattr(architecture, "name", architecture) == "crosscoder"
        inputs, targets = roles(rows.sites, target is not None, joined)
        plan = plan_for(rows, inputs, targets, seed=seed, architecture=architecture, **options)
        if single:
            refuse_several(plan)
        folder, header = None if to is None else Path(to), {}
        if folder is not None:
            header = header_of(plan, rows)
            done = give_back(folder, header)
            if done is not None:
                return done
            open_folder(folder, plan.names())
        memory.say(plan, rows, progress)
        training = Training(plan, rows, folder)
        group = training.run(progress=progress)
        sample = dict(zip(rows.sites, rows.sample(STATISTICS, seed=first), strict=True))
        mixing = rows.effective_groups(plan.batch)
        about = rows.about
    saes = tuple(group.saes())
    table = finding(plan, training.history, about, mixing, resumed=training.first, started=started)
    for member, sae in enumerate(saes):
        sae.about |= about_of(plan, member, about)
        sae.statistics = seen_rows(sample, plan.inputs[member])
        sae.history = table.of(member)
    if folder is not None:
        keep(folder, saes, plan.names(), header)
    return saes


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
