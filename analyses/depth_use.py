"""`depth_use`: what each block adds, which way it points, and how near its input is to the answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.depth.contributions import MEASURES, Contributions, Floats
from layerscope.analyses.depth.depth_use_finding import DepthUseFinding
from layerscope.analyses.lens import FIRST_LEFT_OUT
from layerscope.analyses.lenses.lens_profile import Profile, Profiling
from layerscope.analyses.lenses.translators import LogitLens
from layerscope.analyses.material.texts import Texts, as_texts, check_finite, group_means, run
from layerscope.analyses.skipping.cosines import Pair, sites_of
from layerscope.analyses.skipping.similarity_sources import model_sites, plan
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.twin import untrained_twin

if TYPE_CHECKING:
    import pandas as pd

LENS = {"kl_lens_final": "nats", "overlap": "share of the top k"}
"""Measures of the logit lens at the input of each block; KL(lens || final), lens first."""
TOKENS = 2048


def depth_use(
    model: nn.Module,
    data: Any = None,
    *,
    k: int = 5,
    twin: bool = True,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> DepthUseFinding:
    """How a model uses its depth: contributions of blocks, and the prediction as it takes shape.

    Args:
        model: A decoder with an unembedding; without one, contributions only.
        data: A corpus, a path, texts or ids; None takes bundled sentences.
        k: Length of the lists of likeliest tokens whose overlap is measured.
        twin: Whether to measure an untrained twin as well.
        limit: At most so many texts of `data`.
        tokenizer: Object or path; None takes the model's own.
        seed: Of twin and intervals.
        progress: Whether to show bars.

    Returns:
        A `DepthUseFinding`: a line for each block, part and measure.

    Raises:
        LookupError: a model without a stack of blocks.
        ValueError: no text of two tokens, or states that are NaN or infinite.
    """
    started = time.perf_counter()
    texts = as_texts(model, data, tokenizer=tokenizer, limit=limit)
    if all(len(ids) < 2 for ids in texts.prompts.ids):
        raise ValueError(
            "every text is a single token, which is the first of its text; give longer texts"
        )
    found = _measure(model, texts, k, "depth use", progress)
    other = None
    if twin:
        fresh = untrained_twin(model, seed=seed)
        other = _measure(fresh, texts, k, "untrained twin", progress)
    blocks = len(anatomy(model).blocks)
    return DepthUseFinding(
        table=_table(found, other, texts, k, seed),
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{texts.name}: {texts.tokens:,} tokens",
            parameters={
                "k": k,
                "twin": twin,
                "layer_evaluations": blocks * len(texts) * (1 + twin),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*texts.notes, FIRST_LEFT_OUT, *found.notes),
    )


@dataclass(frozen=True)
class _Measured:
    added: Contributions
    lens: Profile | None
    notes: tuple[str, ...]


def _measure(model: nn.Module, texts: Texts, k: int, name: str, progress: bool) -> _Measured:
    from tqdm.auto import tqdm

    planned = plan(model_sites(model))
    stream = [state[0] for state in planned.stream]
    added = Contributions(planned.pairs, len(texts))
    lens, notes = _profiling(model, texts, k)
    pairs = [state for pair in planned.pairs for state in (pair.before, pair.after)]
    sites = list(dict.fromkeys([*stream, *sites_of(pairs)]))
    with tqdm(total=len(texts), desc=name, unit="text", disable=not progress) as bar:
        for index, ids in texts.batches(TOKENS):
            states = _states(model, ids, sites)
            added.update(index, states)
            if lens is not None:
                lens.update(index, ids, torch.stack([states[site] for site in stream]))
            bar.update(len(index))
    return _Measured(added, None if lens is None else lens.result(), (*planned.notes, *notes))


def _profiling(model: nn.Module, texts: Texts, k: int) -> tuple[Profiling | None, list[str]]:
    try:
        return Profiling(model, texts, [LogitLens()], k=k), []
    except (LookupError, ValueError) as error:
        return None, [f"No lens: {error}."]


def _states(model: nn.Module, ids: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
    """`[b, p, d]` by site."""
    with undisturbed(model), capture(model, sites, stop=True) as seen:
        run(model, ids)
    states = {site: seen[site] for site in sites}
    for site, x in states.items():
        check_finite(site, x, ids)
    return states


def _table(
    found: _Measured, twin: _Measured | None, texts: Texts, k: int, seed: int
) -> pd.DataFrame:
    import pandas as pd

    own = _added(found.added, texts, seed) + _read(found.lens, texts, k, seed)
    if twin is not None:
        others = _added(twin.added, texts, seed) + _read(twin.lens, texts, k, seed)
        for line, other in zip(own, others, strict=True):
            line["twin"] = other["value"]
            line["twin_low"], line["twin_high"] = other["ci_low"], other["ci_high"]
    last = {"n": int(found.added.counts[:, 0].sum()), "n_groups": texts.n_groups}
    return pd.DataFrame([line | last | {"estimator": "mean over tokens"} for line in own])


def _added(found: Contributions, texts: Texts, seed: int) -> list[dict[str, Any]]:
    """Lines of what is added."""
    means = group_means(found.sums[..., 0], found.counts[:, 0], texts, seed)
    every = found.sums.sum((-2, -1)) / found.counts.sum()
    lines = []
    for row, (measure, unit) in enumerate(MEASURES.items()):
        for number, pair in enumerate(found.pairs):
            if measure == "cosine_states" and pair.part != "block":
                continue
            line = _line(measure, pair, means, (row, number)) | {"unit": unit}
            line |= {"with_first": float(every[row, number])}
            lines.append(line | {"largest": float(found.largest[row, number])})
    return lines


def _read(found: Profile | None, texts: Texts, k: int, seed: int) -> list[dict[str, Any]]:
    """Lines of the lens at the input of each block."""
    if found is None:
        return []
    lines = []
    for measure, unit in LENS.items():
        sums, counts = found.sums[measure][0], found.counts[measure]
        means = group_means(sums[..., 0], counts[:, 0], texts, seed)
        for layer in range(len(sums) - 1):
            pair = Pair("input of the block", layer, (), ())
            line = _line(measure, pair, means, (layer,)) | {
                "unit": unit.replace("top k", f"top {k}")
            }
            line |= {"with_first": float(sums[layer].sum() / counts.sum())}
            lines.append(line)
    return lines


def _line(
    measure: str, pair: Pair, means: tuple[Floats, Floats, Floats], at: tuple[int, ...]
) -> dict[str, Any]:
    mean, low, high = (float(x[at]) for x in means)
    place = {"measure": measure, "part": pair.part, "layer": pair.layer}
    return place | {"value": mean, "ci_low": low, "ci_high": high}
