"""`sparsity`: how few neurons are at work at a time, which never are, and which overshoot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.activity.counters import Counters, Who
from layerscope.analyses.activity.functional_sparsity import HALVINGS, tolerated
from layerscope.analyses.activity.gates import NAMED, activations, factors
from layerscope.analyses.activity.neuron_sources import ModelTexts, Source, Stored, source_for
from layerscope.analyses.activity.sparsity_finding import SparsityFinding
from layerscope.analyses.activity.sparsity_table import COLUMNS, Site, lines_of
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import dtype_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.prompts import in_force
from layerscope.hooks.sites import layer_of, resolve
from layerscope.hooks.twin import untrained_twin
from layerscope.probes.reading.stored import stored_sites
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples

FEW = 10_000
"""Tokens below which a note says that they are few."""
FUNCTIONAL_TOKENS = 2048
"""Tokens on which the functional sparsity is measured, at most."""


def sparsity(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    *,
    sites: int | str | Sequence[int | str] = "blocks.*.mlp_act",
    gated: bool = True,
    functional: bool = False,
    allowed: float = 0.01,
    massive: float = 100.0,
    twin: bool = False,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> SparsityFinding:
    """How many neurons of each layer are active at a token, by several definitions.

    Activations are counted as the model computes them and are not kept: memory does not grow with
    the number of tokens.

    Args:
        source: A model; or a store or its folder that holds neurons.
        data: For a model: a corpus, a path, texts or ids, or tensors (`Samples`) where it reads no
            text; None takes bundled sentences.
        sites: Where. Any module path too: of a feature map, each position is a row and each channel
            a unit.
        gated: Also read the two factors of gated MLPs, where they are outputs of modules.
        functional: Also search for the largest share of each row that can be zeroed, smallest
            first, before the loss grows by `allowed`; for each site and for all together. Runs the
            model 10 times for each, on at most 2,048 tokens.
        allowed: See `functional`; 0.01 is 1 %.
        massive: Units with an activation beyond so many times the usual are counted; the usual is
            the median over units of the mean absolute activation.
        twin: Whether to measure the untrained twin as well.
        limit: At most so many texts of `data`.
        tokenizer: Object or path; None takes the model's own.
        seed: Of twin, intervals and the control of `functional`.
        progress: Whether to show bars.

    Raises:
        LookupError: a site that is not there.
        TypeError: neither a model nor a store.
        ValueError: data, twin or functional with a store; activations that are NaN or infinite; no
            rows; an encoder-decoder, of which one stack must be given.
    """
    import pandas as pd

    started = time.perf_counter()
    model = source if isinstance(source, nn.Module) else None
    rows: Source
    if model is None:
        store = _store(source, data, twin, functional)
        rows, names = Stored(store), stored_sites(store, sites)
        chosen = [_site(site, {}) for site in names]
        about: dict[str, Any] = {"model": str(store.about.get("model", "")), "store_key": store.key}
    else:
        names = _neurons(model, sites)
        rows = source_for(model, data, tokenizer, limit)
        pairs = factors(model, names, rows) if gated else {}
        chosen = [_site(site, pairs) for site in names] + _factor_sites(pairs)
        about = {"model": title(model)}
    counted = _counted(rows, chosen, progress)
    fresh = _twin(model, rows, chosen, seed, progress) if model is not None and twin else None
    lines = lines_of(chosen, counted, fresh, rows, massive, seed)
    if functional and model is not None:
        lines += _functional(model, rows, names, allowed, seed, progress)
    table = pd.DataFrame(lines).reindex(columns=list(COLUMNS))
    table = table.dropna(axis=1, how="all").reset_index(drop=True)
    return SparsityFinding(
        table=table.astype({"layer": "Int64"}) if "layer" in table else table,
        provenance=Provenance(
            **about,
            data=rows.name,
            parameters={
                "sites": [site.name for site in chosen],
                "functional": functional,
                "allowed": allowed,
                "massive": massive,
                "twin": twin,
            },
            call=f"sparsity({'store' if model is None else 'model, data'}, sites={sites!r})",
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*rows.notes, *_notes(model, rows, counted, table)),
    )


def _store(source: Any, data: object, twin: bool, functional: bool) -> Store:
    if not isinstance(source, (Store, str, Path)):
        raise TypeError(f"give a model, a store or its folder, not {type(source).__name__}")
    if data is not None:
        raise ValueError("a store has its own rows; give data only with a model")
    if twin or functional:
        asked = "twin" if twin else "functional"
        raise ValueError(f"{asked}=True needs the model; a store has only its activations")
    return source if isinstance(source, Store) else Store.open(source)


def _neurons(model: nn.Module, sites: int | str | Sequence[int | str]) -> tuple[str, ...]:
    """The sites; where a model has no MLP that is known, the error names its activations."""
    try:
        return resolve(model, sites)
    except LookupError as error:
        found = activations(model)
        if not found or any(name.endswith(".mlp_act") for name in anatomy(model).sites):
            raise
        told = ", ".join(f"{name!r} ({kind})" for name, kind in list(found.items())[:8])
        raise LookupError(
            f"{error}. Pass sites=, such as sites={next(iter(found))!r}; activations of this model: "
            f"{told}{', ...' if len(found) > 8 else ''}"
        ) from error


def _site(site: str, pairs: Mapping[str, tuple[str, str]]) -> Site:
    part = "units" if not site.endswith(NAMED) else "product" if site in pairs else "neurons"
    return Site(site, layer_of(site), part)


def _factor_sites(pairs: Mapping[str, tuple[str, str]]) -> list[Site]:
    return [
        Site(path, layer_of(site), part)
        for number, part in enumerate(("gate", "up"))
        for site, path in ((site, pair[number]) for site, pair in pairs.items())
    ]


def _counted(rows: Source, sites: Sequence[Site], progress: bool) -> dict[str, Counters]:
    counted = {site.name: Counters(site.name, rows.groups) for site in sites}

    def see(site: str, a: Tensor, who: Who) -> None:
        counted[site].update(a, who)

    rows.feed(list(counted), see, progress=progress)
    empty = [site for site, one in counted.items() if not one.counts.sum()]
    if empty:
        raise ValueError(f"there are no rows of {', '.join(empty)}: no forward pass reached them")
    return counted


def _twin(
    model: nn.Module, rows: Source, sites: Sequence[Site], seed: int, progress: bool
) -> dict[str, Counters]:
    fresh = rows.of(untrained_twin(model, seed=seed))
    return _counted(fresh, sites, progress)


def _functional(
    model: nn.Module, rows: Source, sites: Sequence[str], allowed: float, seed: int, progress: bool
) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    if not isinstance(rows, ModelTexts):
        raise ValueError("functional=True needs a language model that reads texts")
    held = np.cumsum([len(ids) for ids in rows.texts.prompts.ids])
    most = max(1, int(np.searchsorted(held, FUNCTIONAL_TOKENS, side="right")))
    texts = rows.texts.chosen(range(min(most, len(rows.texts))))
    together = [[site] for site in sites] + ([list(sites)] if len(sites) > 1 else [])
    lines = []
    with tqdm(
        total=len(together) * (HALVINGS + 1), desc="zeroing", unit="pass", disable=not progress
    ) as bar:
        for group in together:
            found = tolerated(model, texts, group, allowed=allowed, seed=seed, seen=bar.update)
            low, high = mean_intervals(found.added[:, None], found.tokens, seed=seed)
            alone = len(group) == 1
            lines.append(
                {
                    "site": group[0] if alone else "all of them",
                    "layer": layer_of(group[0]) if alone else None,
                    "part": "functional",
                    "measure": "functional",
                    "level": allowed,
                    "value": found.fraction,
                    "loss": found.loss,
                    "added": float(found.added.sum() / found.tokens.sum()),
                    "added_low": low[0],
                    "added_high": high[0],
                    "control": found.control,
                    "n": int(found.tokens.sum()),
                    "n_groups": texts.n_groups,
                    "unit": "share of units",
                    "estimator": f"largest of 2^-{HALVINGS} steps",
                }
            )
    return lines


def _notes(
    model: nn.Module | None,
    rows: Source,
    counted: Mapping[str, Counters],
    table: pd.DataFrame,
) -> list[str]:
    one = next(iter(counted.values()))
    notes = [*in_force(model)] if model is not None else []
    if rows.apart:
        apart = f"Values leave out {rows.apart} ({int(one.counts[1].sum()):,} rows)"
        notes.append(f"{apart}; the column first has their mean.")
    if one.counts[0].sum() < FEW:
        notes.append(
            f"{int(one.counts[0].sum()):,} tokens are few: rates below about "
            f"{3 / max(1, one.counts[0].sum()):.1g} cannot be told from never firing."
        )
    if one.counts.shape[1] < 20:
        notes.append(f"Only {one.counts.shape[1]} groups: intervals are too narrow, or absent.")
    if model is not None and dtype_of(model) in (torch.float16, torch.bfloat16):
        notes.append(
            f"The model computes in {str(dtype_of(model)).removeprefix('torch.')}: some exact "
            "zeros may be numbers too small for it. Compare with dtype=torch.float32."
        )
    exact = table[(table["measure"] == "active") & (table["level"] == 0)]
    if (exact["value"] > 0.999).all():
        notes.append(
            "No exact zeros: this activation function has none, so read the curve over "
            "tolerances and the energy, not the share that is not zero."
        )
    if exact["width"].nunique() > 1:
        notes.append("Sites differ in width; compare counts as well as shares.")
    silent = {s: int(c.silent.sum()) for s, c in counted.items() if c.silent.any()}
    if silent:
        notes.append(
            f"Rows of zeros have no Hoyer or Treves-Rolls value and are left out of these: "
            f"{', '.join(f'{n:,} at {s}' for s, n in silent.items())}."
        )
    return notes
