"""`parallel_windows`: which runs of blocks may work side by side instead of one after the other."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from layerscope.analyses.material.texts import tokens_at_once
from layerscope.analyses.skipping.parallel_windows_finding import WindowsFinding
from layerscope.analyses.skipping.skip_effects import Output
from layerscope.analyses.skipping.skip_inputs import chosen_texts, refuse_model
from layerscope.analyses.skipping.skip_lanes import require_blocks
from layerscope.analyses.skipping.window_streams import Interactions, Windows
from layerscope.analyses.skipping.window_totals import WindowTotals
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import device_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replay import record
from layerscope.hooks.unembed import Unembed


def parallel_windows(
    model: nn.Module,
    data: Any = None,
    *,
    longest: int | None = 6,
    no_skip_front: int = 0,
    max_texts: int = 16,
    max_tokens: int | None = 128,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> WindowsFinding:
    """Let the blocks of a window all read the window's input, and add up what they write.

    With h the input of block i, ``h_j' = h_i + sum of f_l(h_i)`` for l from i to j-1 takes the place
    of h_j (Bermeitinger et al. 2023, on a trained decoder); within a block, attention still runs
    before the MLP. The control moves h_j as far, token by token, in a random direction.

    Args:
        model: A decoder whose blocks can be run one by one.
        data: Texts, ids or a corpus; None takes bundled sentences.
        longest: Most blocks of a window; None for all.
        no_skip_front: Effects on so many first tokens are not read.
        max_texts: More texts are drawn from at random.
        max_tokens: Longer texts are cut.
        tokenizer: Object or path; None takes the model's own.
        seed: Of texts, control and intervals.
        progress: Whether to show bars.

    Raises:
        LookupError: no blocks, or no logits.
        RuntimeError: blocks that cannot be run one by one.
        ValueError: fewer than two blocks, or no text that is long enough.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    started = time.perf_counter()
    refuse_model(model, "block")
    blocks = len(anatomy(model).blocks)
    most = min(longest or blocks, blocks)
    if most < 2:
        raise ValueError(
            f"a window has two blocks or more; the model has {blocks}, longest={longest}"
        )
    texts = chosen_texts(
        model, data, no_skip_front, max_texts, max_tokens, tokenizer=tokenizer, seed=seed
    )
    decode = Unembed(model)
    totals = WindowTotals(blocks, most, texts.n_groups)
    generator = torch.Generator().manual_seed(seed)
    with (
        evaluating(model),
        torch.no_grad(),
        tqdm(total=len(texts), desc="windows", unit="text", disable=not progress) as bar,
    ):
        for index, ids in texts.batches(tokens_at_once(model, most=1024)):
            ids = ids.to(device_of(model))
            require_blocks(model, ids, "windows")
            run = record(model, {"input_ids": ids})
            totals.evaluations += blocks * len(ids)
            pairs = Interactions(run, most)
            run.perform(pairs)
            totals.evaluations += pairs.evaluations
            output = Output(decode, run.residuals[-1], ids)
            for start in range(blocks - 1):
                window = Windows(run, start, most, pairs.found, generator)
                run.perform(window)
                totals.add(window, output, texts.groups[index], no_skip_front)
            bar.update(len(index))
    parameters = {
        "longest": longest,
        "no_skip_front": no_skip_front,
        "max_texts": max_texts,
        "max_tokens": max_tokens,
        "layer_evaluations": round(totals.evaluations, 2),
    }
    return WindowsFinding(
        table=pd.DataFrame(totals.lines(seed)),
        provenance=Provenance(
            model=title(model),
            data=f"{texts.name}, {len(texts)} texts of {texts.tokens:,} tokens",
            call=f"parallel_windows(model{', data' if data is not None else ''})",
            parameters=parameters,
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=texts.notes,
    )
