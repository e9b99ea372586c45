"""`features`: what the latents of a sparse autoencoder fire on, what they write, what they stand for."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from layerscope.analyses.material.drawn_rows import drawn_rows
from layerscope.analyses.sae.looking.chosen import BY_RULE, COMMON, LEAST, RULES, choose
from layerscope.analyses.sae.looking.class_control import random_told
from layerscope.analyses.sae.looking.class_counts import ClassCounts
from layerscope.analyses.sae.looking.directions_map import LAYOUTS, directions_map
from layerscope.analyses.sae.looking.examples import examples_of
from layerscope.analyses.sae.looking.features_finding import FeaturesFinding
from layerscope.analyses.sae.looking.features_table import (
    class_columns,
    counted,
    effect_columns,
    nearest_columns,
    strongest_token,
)
from layerscope.analyses.sae.looking.firing import blocks, firing
from layerscope.analyses.sae.looking.logit_effects import (
    logit_effects,
    speller,
    typical_stream,
    written,
)
from layerscope.analyses.sae.looking.nearest import nearest
from layerscope.analyses.sae.rows.statistics import mismatch, statistics_of
from layerscope.analyses.sae.sae import SAE
from layerscope.probes.reading.labels import label_of
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    import pandas as pd

MOST = 200
"""Blocks of a page; more would not fit into a report."""
MAPPED = 4000
"""Latents on the map: those that write most."""
COMPARED = 16_384
"""Rows whose statistics are held against those of the training."""
NEIGHBOURS = 5
TOKENS = 6
"""Tokens raised and lowered."""


def features(
    sae: SAE,
    store: Store | str | Path,
    *,
    site: str | int | None = None,
    model: nn.Module | None = None,
    label: str | None = None,
    latents: Sequence[int] | None = None,
    top: int = 8,
    sampled: int = 8,
    shown: int = 24,
    layout: str = "umap",
    max_rows: int = 100_000,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> FeaturesFinding:
    """Look at every latent: how often it fires, its examples, logit effect, neighbours and class.

    Args:
        sae: Any `SAE`.
        store: Activations of the site that it reads, or the store's folder.
        site: Another site of the store; None takes the one that the autoencoder was trained on. A
            crosscoder reads several, joined by commas.
        model: Adds logit effects: each decoder row through the model's own final norm and
            unembedding.
        label: A label of the store's rows: adds the class that each latent tells best.
        latents: Only these, in this order; None takes all, and a rule and chance choose those shown.
        top: Strongest rows of each latent, at most one of each text.
        sampled: Firings drawn at random, as many from each quarter of the codes.
        shown: Latents that get a block on the report's page, 200 at most.
        layout: ``umap`` (by cosine), ``pca`` or ``none``: the map of decoder rows.
        max_rows: Labelled rows that are used at most, drawn at random.
        tokenizer: Object or path, for the tokens of logit effects; None takes the model's own.
        seed: Of sampled firings, halves, shuffled labels, random dictionary, map and choice.
        progress: Whether to show bars.

    Returns:
        A `FeaturesFinding`, one line for each latent.

    Raises:
        LookupError: a site or label that the store has not.
        ValueError: widths that do not fit, latents that are not there, NaN, an empty store.
    """
    import pandas as pd

    started = time.perf_counter()
    store = store if isinstance(store, Store) else Store.open(store)
    sites = _sites(sae, store, site)
    numbers = _latents(sae, latents)
    _check(top, sampled, shown, layout)
    counts = None
    if label is not None:
        label = label_of(store, label)
        counts = ClassCounts(
            store, label, sae.n_latents, max_rows=max_rows, seed=seed, device=sae.W_enc.device
        )
    seen = firing(sae, store, sites, top=top, counts=counts, seed=seed, progress=progress)
    table = counted(sae, store, seen)
    if counts is not None and label is not None:
        random = random_told(sae, store, sites, seen, counts, seed=seed)
        table = table.assign(**class_columns(counts.classes(), label, random))
    table = table.assign(**nearest_columns(*nearest(sae.W_dec, NEIGHBOURS)))
    notes = [*store.notes, *([] if counts is None else counts.notes)]
    notes += _mismatch(sae, store, sites, seed)
    if model is not None:
        table = table.assign(**_effects(sae, store, model, table, tokenizer, notes, progress))
    table = table.iloc[numbers].reset_index(drop=True)
    table = table.assign(**_map(sae, table, layout, seed, notes))
    table = table.assign(**_places(table, shown, latents is not None, seed, notes))
    examples = examples_of(sae, store, sites, seen, numbers, sampled=sampled)
    table["top_token"] = pd.Series([strongest_token(one) for one in examples], dtype=object)
    table["examples"] = pd.Series(examples, dtype=object)
    options = {
        "site": ",".join(sites),
        "label": label,
        "latents": None if latents is None else numbers,
        "top": top,
        "sampled": sampled,
        "shown": shown,
        "layout": layout,
        "max_rows": max_rows,
    }
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    return FeaturesFinding(
        table=table,
        provenance=provenance_of(
            store,
            parameters=options | {"sae": repr(sae)},
            seed=seed,
            started=started,
            call=f"layerscope.analyses.sae.features(sae, store{said}"
            f"{', model=model' if model is not None else ''}, seed={seed})",
        ),
        notes=(*notes, *_cautions(sae, store, table)),
    )


def _sites(sae: SAE, store: Store, site: str | int | None) -> list[str]:
    if site is None and not sae.site:
        raise ValueError(
            f"{sae!r} does not say which site it reads; pass site=, one of {', '.join(store.sites)}"
        )
    asked = [site] if isinstance(site, int) else str(sae.site if site is None else site).split(",")
    views = [store[one.strip() if isinstance(one, str) else one] for one in asked]
    width = sum(view.shape[1] for view in views)
    if width != sae.d_in:
        raise ValueError(
            f"{sae!r} reads vectors of width {sae.d_in}, {', '.join(v.site for v in views)} of "
            f"{store.path.name} has {width}; pass the site= that it was trained on"
        )
    if not len(store):
        raise ValueError(f"{store.path} has no rows; extract it from texts that are not empty")
    return [view.site for view in views]


def _latents(sae: SAE, latents: Sequence[int] | None) -> list[int]:
    if latents is None:
        return list(range(sae.n_latents))
    wrong = [one for one in latents if not 0 <= one < sae.n_latents]
    if wrong or not len(latents) or len(set(latents)) < len(latents):
        raise ValueError(
            f"latents are different numbers from 0 to {sae.n_latents - 1}, got "
            f"{wrong[0] if wrong else list(latents)}"
        )
    return [int(one) for one in latents]


def _check(top: int, sampled: int, shown: int, layout: str) -> None:
    if top < 1 or sampled < 0:
        raise ValueError(f"top must be at least 1 and sampled at least 0, got {top} and {sampled}")
    if not 0 <= shown <= MOST:
        raise ValueError(
            f"shown must be from 0 to {MOST}, got {shown}; finding.page(latents) shows others"
        )
    if layout not in LAYOUTS:
        raise ValueError(f"layout is one of {', '.join(map(repr, LAYOUTS))}, not {layout!r}")


def _effects(
    sae: SAE,
    store: Store,
    model: nn.Module,
    table: pd.DataFrame,
    tokenizer: Any,
    notes: list[str],
    progress: bool,
) -> dict[str, Any]:
    from tqdm.auto import tqdm

    why = written(sae.target)
    if why:
        notes.append(why)
        return {}
    stream = typical_stream(model, store)
    # Of a crosscoder, what is written at the last of its sites.
    decoder = sae.W_dec[:, -sae.parts[-1] :] if sae.parts else sae.W_dec
    with tqdm(total=len(decoder), desc="logit effects", unit="latent", disable=not progress) as bar:
        effects = logit_effects(model, decoder, stream, keep=TOKENS, say=bar.update)
    return effect_columns(effects, table["mean_active"].tolist(), speller(model, tokenizer, store))


def _map(sae: SAE, table: pd.DataFrame, layout: str, seed: int, notes: list[str]) -> dict[str, Any]:
    most = np.sort(np.argsort(-table["energy"].to_numpy(), kind="stable")[:MAPPED])
    if len(most) < len(table) and layout != "none":
        notes.append(f"the map shows the {MAPPED:,} of {len(table):,} latents that write most")
    places = np.full((len(table), 2), np.nan)
    places[most] = directions_map(sae.W_dec[table["latent"].to_numpy()[most]], layout, seed=seed)
    return {"map_x": places[:, 0], "map_y": places[:, 1]}


def _places(
    table: pd.DataFrame, shown: int, asked: bool, seed: int, notes: list[str]
) -> dict[str, Any]:
    import pandas as pd

    if asked:
        chosen, why = np.arange(min(shown, len(table))), ["asked"] * min(shown, len(table))
    else:
        chosen, why = choose(table, shown, seed=seed)
        notes.append(
            f"on the page: {why.count('rule')} latents with {RULES['score' in table]}, of those that fire "
            f"on {LEAST} rows to {COMMON:.0%} of them; and {why.count('random')} of the other live ones "
            f"at random ({1 - BY_RULE:.0%})"
        )
    place = pd.array([pd.NA] * len(table), dtype="Int64")
    reason = np.full(len(table), None, dtype=object)
    place[chosen], reason[chosen] = np.arange(len(chosen)), why
    return {"place": place, "why": reason}


def _mismatch(sae: SAE, store: Store, sites: Sequence[str], seed: int) -> list[str]:
    """A warning, and a note, where the rows are not like those of the training."""
    if sae.statistics is None:
        return []
    index = drawn_rows(len(store), COMPARED, seed).numpy()
    rows = torch.cat([x for x, _ in blocks(store, sites, len(index), index)], 0)
    wrong = mismatch(sae.statistics, statistics_of(rows, ",".join(sites)))
    if wrong is None:
        return []
    warnings.warn(wrong, stacklevel=3)
    return [wrong]


def _cautions(sae: SAE, store: Store, table: pd.DataFrame) -> list[str]:
    notes = []
    if sae.about.get("store_key") == store.key:
        notes.append(
            "these rows are those that the autoencoder was trained on; unseen text can fire it otherwise"
        )
    few = int((table["fired"].between(1, LEAST - 1)).sum())
    if few:
        notes.append(
            f"{few:,} latents fire on fewer than {LEAST} rows: their examples are all there is to see"
        )
    return notes
