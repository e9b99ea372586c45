"""Lines on what the reconstruction does to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layerscope.analyses.material.texts import Texts, as_texts
from layerscope.analyses.sae.measuring.behaviour import (
    Replacement,
    behaviour,
    constant,
    measures,
    replacing,
)
from layerscope.analyses.sae.measuring.definitions import DEFINITIONS
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.analyses.sae.measuring.row_moments import Moments
from layerscope.analyses.sae.measuring.sae_table import Line, measured_line
from layerscope.analyses.sae.sae import SAE
from layerscope.hooks.load import device_of
from layerscope.hooks.sites import resolve
from layerscope.probes.scoring.intervals import GroupBootstrap

KEYS = tuple(key for key, one in DEFINITIONS.items() if one.group == "behaviour")


def behaviour_lines(
    candidates: Mapping[str, SAE],
    rows: MeasuredRows,
    moments: Moments,
    model: nn.Module | None,
    corpus: Any,
    tokenizer: Any,
    notes: list[str],
    *,
    tokens: int,
    seed: int,
    progress: bool,
) -> list[Line]:
    """Cross-entropy and KL with the reconstruction in the running model; none without a model."""
    refused = _refused(model, corpus, rows)
    if refused or model is None:
        notes.append(refused)
        return []
    texts = _some(_texts(model, corpus, tokenizer, rows), tokens, seed)
    notes += texts.notes
    site, target = (_site(model, one) for one in (rows.site, rows.target))
    device = device_of(model)
    placed = {
        name: one if one.W_enc.device == device else _moved(one, device)
        for name, one in candidates.items()
    }
    replacements: dict[str, Replacement] = {name: replacing(one) for name, one in placed.items()}
    replacements |= {
        "zero": constant(torch.zeros_like(moments.mean_y)),
        "mean": constant(moments.mean_y),
    }
    found = behaviour(model, texts, site, target, replacements, progress=progress)
    values = measures(found)
    drawn = GroupBootstrap(np.arange(texts.n_groups), seed=seed).times.astype(float)
    spread = measures(found, drawn)["sae"]
    n = int(found.counts.sum())
    lines = []
    for key in KEYS:
        one = {name: float(by[key][0]) for name, by in values.items()}
        interval = _ends(spread[key]) if texts.n_groups > 1 else (np.nan, np.nan)
        if key in ("ce_clean", "ce_zero", "ce_mean"):
            one = {"sae": one["sae"]}  # the same whatever is put in
        lines.append(
            measured_line(
                key, one, n=n, interval=interval, n_groups=texts.n_groups,
                estimator="mean over predicted tokens",
            )
        )  # fmt: skip
    harmless = [
        name for name in ("zero", "mean")
        if not np.isfinite(values["sae"][f"ce_recovered_{name}"][0])
    ]  # fmt: skip
    if harmless:
        notes.append(
            f"putting {' or '.join(harmless)} in place of {target} does not raise the loss, so there "
            "is nothing that could be recovered"
        )
    return lines


def _refused(model: nn.Module | None, corpus: Any, rows: MeasuredRows) -> str:
    if model is None:
        return "cross-entropy was not measured: pass model= (the one the activations are from)"
    if "," in rows.site or "," in rows.target:
        return "cross-entropy is not measured for crosscoders: they rebuild several sites at once"
    if not rows.site:
        return "cross-entropy was not measured: pass site=, the place in the model"
    if corpus is None and (rows.store is None or not len(rows.store.texts)):
        return "cross-entropy was not measured: the data hold no texts; pass corpus="
    return ""


def _texts(model: nn.Module, corpus: Any, tokenizer: Any, rows: MeasuredRows) -> Texts:
    if corpus is not None:
        return as_texts(model, corpus, tokenizer=tokenizer)
    assert rows.store is not None
    contents = rows.store.texts
    found = as_texts(model, [str(text) for text in contents], tokenizer=tokenizer)
    frame = rows.store.rows
    if "group" not in frame:
        return found
    group = frame.drop_duplicates("text").set_index("text")["group"].reindex(contents.index)
    numbers = np.unique(group.astype(str).to_numpy(), return_inverse=True)[1]
    return Texts(found.prompts, numbers.astype(np.int64), rows.store.path.name)


def _some(texts: Texts, tokens: int, seed: int) -> Texts:
    """Texts of two tokens or more, at random, until there are so many tokens."""
    lengths = np.array([len(ids) for ids in texts.prompts.ids])
    order = np.random.default_rng(seed).permutation(np.flatnonzero(lengths > 1))
    enough = int(np.searchsorted(np.cumsum(lengths[order]), tokens)) + 1
    chosen = np.sort(order[:enough])
    if not len(chosen):
        raise ValueError(f"{texts.name!r} has no text of two tokens: there is nothing to predict")
    part = texts.chosen(chosen.tolist())
    if len(chosen) == len(texts):
        return part
    note = f"the model read {len(chosen):,} of {len(texts):,} texts; raise tokens to use more"
    return replace(part, prompts=replace(part.prompts, notes=(*part.prompts.notes, note)))


def _site(model: nn.Module, name: str) -> str:
    return resolve(model, name)[0]


def _moved(sae: SAE, device: torch.device) -> SAE:
    from copy import deepcopy

    return deepcopy(sae).to(device)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    if not np.isfinite(values).any():
        return (float("nan"), float("nan"))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
