"""`attention_modes`: whether heads average over everything or pick a few keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.activity.attention_modes_finding import AttentionModesFinding
from layerscope.analyses.activity.attention_passes import Passes, WindowPasses, passes_for
from layerscope.analyses.activity.attention_table import COLUMNS, lines_of
from layerscope.analyses.activity.head_counts import HeadCounts, Rows
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.listening.watch import StopForward, watch
from layerscope.hooks.load import dtype_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.sites import resolve
from layerscope.hooks.twin import untrained_twin

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples


def attention_modes(
    model: nn.Module,
    data: Corpus | Samples | Any = None,
    *,
    sites: int | str | Sequence[int | str] = "blocks.*.pattern",
    window: int | None = None,
    windows: int = 64,
    least: int = 32,
    share: float = 0.9,
    sink: float = 0.3,
    twin: bool = False,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> AttentionModesFinding:
    """How many of the visible keys hold 90 % of each head's attention, and its operating mode.

    After Ramsauer et al. (2021, arXiv 2008.02217), who see a head as a Hopfield network: k is the
    least number of keys that together hold 90 % of a query's attention. Modes by k over the visible
    keys, median over queries of each: I above 1/2 (averages over everything), II above 1/8, III above 1/32, IV up to 1/32 (picks
    single keys). Everything is counted during the forward passes; no attention row is kept.

    Args:
        model: A model with attention that `capture` can read (`blocks.i.pattern`).
        data: A corpus, a path or texts, which are joined into windows without padding; ids, which
            are taken as they are; or tensors (`Samples`); None takes bundled sentences.
        sites: Which patterns.
        window: Tokens of a window; None takes the context, at most 512.
        windows: At most so many.
        least: Queries that see fewer keys than this are left out: under a causal mask the first
            ones have hardly any choice.
        share: Of the attention.
        sink: A head whose mean attention to the first position and to special tokens is at least
            this is called a sink head (0.3 as in Gu et al. 2025, arXiv 2410.10781).
        twin: Whether to measure the untrained twin as well.
        tokenizer: Object or path; None takes the model's own.
        seed: Of twin and intervals.
        progress: Whether to show bars.

    Raises:
        LookupError: the model has no attention, or no such pattern.
        TypeError: not a model, such as a store, which holds no attention.
        ValueError: no window with a query that sees `least` keys; a share or sink outside 0 to 1;
            attention probabilities that are NaN; an encoder-decoder, of which one stack must be
            given.
    """
    import pandas as pd

    started = time.perf_counter()
    _check(share, sink, least)
    names = _patterns(model, sites)
    passes = passes_for(model, data, window, windows, tokenizer)
    counted = _counted(model, passes, names, share, least, progress)
    fresh = None
    if twin:
        other = untrained_twin(model, seed=seed)
        fresh = _counted(other, passes, names, share, least, progress)
    table = pd.DataFrame(lines_of(counted, fresh, sink=sink, share=share, seed=seed))
    table = table.reindex(columns=list(COLUMNS)).dropna(axis=1, how="all")
    return AttentionModesFinding(
        table=table,
        provenance=Provenance(
            model=title(model),
            data=passes.name,
            parameters={
                "sites": list(names),
                "window": window,
                "windows": windows,
                "least": least,
                "share": share,
                "sink": sink,
                "twin": twin,
            },
            call=f"attention_modes(model{', data' if data is not None else ''})",
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*passes.notes, *_notes(model, passes, table, least)),
    )


def _patterns(model: nn.Module, sites: int | str | Sequence[int | str]) -> tuple[str, ...]:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"attention_modes needs the model, to see the attention of all its heads, not "
            f"{type(model).__name__}; give the model that a store was made from, and its texts"
        )
    try:
        return resolve(model, sites)
    except LookupError as error:
        if any(name.endswith(".pattern") for name in anatomy(model).sites):
            raise
        raise LookupError(
            f"this model has no attention: no attention pattern was found in {type(model).__name__}. "
            f"{error}"
        ) from error


def _check(share: float, sink: float, least: int) -> None:
    for name, value in (("share", share), ("sink", sink)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is a share between 0 and 1, not {value}")
    if least < 1:
        raise ValueError(f"least is a number of keys from 1, not {least}")


def _counted(
    model: nn.Module,
    passes: Passes,
    sites: Sequence[str],
    share: float,
    least: int,
    progress: bool,
) -> dict[str, HeadCounts]:
    from tqdm.auto import tqdm

    counted = {site: HeadCounts(passes.groups, share=share, least=least) for site in sites}
    with tqdm(total=passes.count, desc="attention", unit="text", disable=not progress) as bar:
        for call, group, sinks in passes:

            def see(site: str, x: Tensor, group: Any = group, sinks: Tensor = sinks) -> None:
                _refuse_broken(site, x)
                keys = torch.nn.functional.pad(sinks, (0, x.shape[3] - sinks.shape[1]))
                counted[site].update(x.detach(), Rows(group, keys))

            with (
                undisturbed(model),
                suppress(StopForward),
                watch(model, sites, see, stop=True),
            ):
                call(model)
            bar.update(len(group))
    empty = [site for site, one in counted.items() if not one.counts.sum()]
    if empty:
        raise ValueError(
            f"at {empty[0]} no query sees {least} keys or more; give longer texts, or a smaller "
            "least"
        )
    return counted


def _refuse_broken(site: str, pattern: Tensor) -> None:
    good = pattern.isfinite().flatten(1).all(-1)
    if not bool(good.all()):
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"{site} has NaN or infinite attention in row {row} of a batch; load the model in "
            "float32 or bfloat16"
        )


def _notes(model: nn.Module, passes: Passes, table: pd.DataFrame, least: int) -> list[str]:
    heads = table[table["part"] == "head"]
    seen = f"the median query sees {heads['visible'].median():g}"
    notes = [f"Queries that see fewer than {least} keys are left out; {seen}."]
    if heads["visible"].max() < 128:
        notes.append(
            "Windows are short: with few keys, mode IV is a key or two, and modes are coarse."
        )
    if passes.groups < 20:
        notes.append(f"Only {passes.groups} groups: intervals are too narrow, or absent.")
    if heads["is_sink"].any():
        notes.append(
            "A head that puts its attention on a sink looks like mode IV though it may do nothing; "
            "the columns that begin with rest are without the sinks."
        )
    if isinstance(passes, WindowPasses) and len({len(x) for x in passes.texts.prompts.ids}) > 1:
        notes.append(
            "The windows are of several lengths; k and the number of visible keys are medians "
            "over all queries."
        )
    if dtype_of(model) in (torch.float16, torch.bfloat16):
        notes.append("The model computes in half precision: small probabilities are rounded.")
    return notes
