"""`linear_maps`: which layer of one model predicts which layer of another, by an affine map."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.depth.linear_maps_finding import LinearMapsFinding
from layerscope.analyses.lenses.affine_maps import AffineFit, AffineMaps
from layerscope.analyses.material.texts import Texts, as_texts, residual_sites, residuals
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import tokenizer_of
from layerscope.hooks.twin import untrained_twin
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.store import tokenizer_identity

if TYPE_CHECKING:
    import pandas as pd

TOKENS = 2048
FEW_ROWS = 10
"""Rows for each feature under which a map has too little to learn from."""


def linear_maps(
    source: nn.Module,
    target: nn.Module,
    data: Any = None,
    *,
    ridge: float = 1e-3,
    test: float = 0.3,
    first: bool = False,
    twin: bool = True,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> LinearMapsFinding:
    """Fit an affine map from every layer of `source` to every layer of `target`, in closed form.

    Args:
        source: A model, usually the one of fewer blocks.
        target: A model that reads the same tokens.
        data: A corpus, a path, texts or ids; None takes bundled sentences.
        ridge: Penalty relative to the mean variance of a source layer's features.
        test: Share of the groups (documents) on which maps are measured.
        first: Whether first tokens of texts count; in many models their states are so large
            that little else would be seen.
        twin: Whether to measure an untrained twin of `source` as well.
        limit: At most so many texts of `data`.
        tokenizer: Object or path; None takes the one of `source`.
        seed: Of split, twin and intervals.
        progress: Whether to show bars.

    Returns:
        A `LinearMapsFinding`: a line for each pair of layers.

    Raises:
        ValueError: models with different tokenizers, one group of texts only, or too few rows.
    """
    started = time.perf_counter()
    _same_tokens(source, target, tokenizer)
    texts = as_texts(source, data, tokenizer=tokenizer, limit=limit)
    fit, held = texts.split(test, seed=seed)
    found = _measured(source, target, fit, held, ridge, first, "linear maps", progress)
    other = None
    if twin:
        fresh = untrained_twin(source, seed=seed)
        other = _measured(fresh, target, fit, held, ridge, first, "untrained twin", progress)
    sizes = [len(anatomy(model).blocks) for model in (source, target)]
    return LinearMapsFinding(
        table=_table(found, other, held, seed),
        provenance=Provenance(
            model=f"{anatomy(source).model} -> {anatomy(target).model}",
            data=f"{texts.name}: {texts.tokens:,} tokens",
            parameters={
                "ridge": ridge,
                "test": test,
                "first": first,
                "twin": twin,
                "fit_rows": found.rows,
                "layer_evaluations": len(texts) * (sum(sizes) * (1 + twin)),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*texts.notes, *_notes(found, held, first)),
    )


@dataclass(frozen=True)
class _Measured:
    missed: NDArray[np.float64]
    """`[sources, targets, texts]` squared error on held-out texts."""
    spread: NDArray[np.float64]
    """`[targets, texts]` squared distance from the mean of the fitted rows."""
    rows: int
    """Rows the maps were fitted on."""
    held: int
    width: int


def _measured(
    source: nn.Module,
    target: nn.Module,
    fit: Texts,
    held: Texts,
    ridge: float,
    first: bool,
    name: str,
    progress: bool,
) -> _Measured:
    from tqdm.auto import tqdm

    with tqdm(total=len(fit) + len(held), desc=name, unit="text", disable=not progress) as bar:
        growing: AffineFit | None = None
        for index, x, y in _pairs(source, target, fit, first):
            if growing is None:
                growing = AffineFit((len(x), x.shape[-1]), (len(y), y.shape[-1]))
            growing.update(x.flatten(1, 2), y.flatten(1, 2))
            bar.update(len(index))
        if growing is None:
            raise ValueError(
                "no text to fit on has a second token; pass first=True, or other texts"
            )
        maps = growing.result(ridge=ridge)
        sizes = growing.sizes
        missed, spread = np.zeros((*sizes, len(held))), np.zeros((sizes[1], len(held)))
        rows = 0
        for index, x, y in _pairs(source, target, held, first):
            rows += x.shape[1] * x.shape[2]
            missed[:, :, index], spread[:, index] = _errors(maps, x, y)
            bar.update(len(index))
    return _Measured(missed, spread, maps.rows, rows, x.shape[-1])


def _pairs(
    source: nn.Module, target: nn.Module, texts: Texts, first: bool
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """`(indices [b], source states, target states)`, each `[L + 1, b, p, d]`."""
    for index, ids in texts.batches(TOKENS):
        if ids.shape[1] > 1 or first:
            x, y = (residuals(m, ids)[:, :, (not first) :] for m in (source, target))
            yield index, x, y


def _errors(maps: AffineMaps, x: Tensor, y: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Squared error `[sources, targets, b]`, and squared distance from the mean `[targets, b]`."""
    wide = y.to("cpu", torch.float64)
    missed = []
    for source, states in enumerate(x.cpu()):
        guess = maps(states.flatten(0, 1), source).view_as(wide)
        missed.append((guess - wide).square().sum((-1, -2)))
    spread = (wide - maps.center[:, None, None]).square().sum((-1, -2))
    return torch.stack(missed).numpy(), spread.numpy()


def _table(found: _Measured, twin: _Measured | None, held: Texts, seed: int) -> pd.DataFrame:
    import pandas as pd

    draws = GroupBootstrap(held.groups, seed=seed) if held.n_groups > 1 else None
    sources, targets = (residual_sites(n - 1) for n in found.missed.shape[:2])
    share = found.missed.sum(-1) / found.spread.sum(-1)
    lines = []
    for i, j in np.ndindex(*share.shape):
        low = high = np.nan
        if draws is not None:
            # The draws give intervals of 1 - missed / spread.
            low, high = (1 - end for end in draws.ratio(found.missed[i, j], found.spread[j])[::-1])
        line = {
            "source": sources[i],
            "target": targets[j],
            "source_index": i,
            "target_index": j,
            "source_depth": i / max(1, len(sources) - 1),
            "target_depth": j / max(1, len(targets) - 1),
            "value": share[i, j],
            "ci_low": low,
            "ci_high": high,
            "best": bool(i == share[:, j].argmin()),
            "baseline": share[0, j],
        }
        if twin is not None:
            line["twin"] = twin.missed[i, j].sum() / twin.spread[j].sum()
        line |= {"n": found.held, "n_groups": held.n_groups}
        lines.append(line | {"unit": "unexplained share of variance", "estimator": "ridge"})
    return pd.DataFrame(lines)


def _same_tokens(source: nn.Module, target: nn.Module, tokenizer: Any) -> None:
    sizes = [_vocabulary(model) for model in (source, target)]
    names = []
    for model in (source, target):
        with suppress(ValueError, OSError):
            names.append(tokenizer_identity(tokenizer_of(model)))
    if tokenizer is None and len(names) == 2 and names[0] != names[1]:
        raise ValueError(
            "the two models have different tokenizers, so their states are of different tokens; "
            "pass tokenizer= if one of them fits both all the same"
        )
    if len(names) < 2 and None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"the models read {sizes[0]:,} and {sizes[1]:,} different tokens: they do not share a "
            "tokenizer; similarity compares models of different tokenizers"
        )


def _vocabulary(model: nn.Module) -> int | None:
    declared = getattr(model, "get_input_embeddings", None)
    return getattr(declared(), "num_embeddings", None) if callable(declared) else None


def _notes(found: _Measured, held: Texts, first: bool) -> list[str]:
    notes = [f"Fitted on {found.rows:,} rows; {found.held:,} rows of other documents are measured."]
    if not first:
        notes.append("First tokens of texts are left out of fit and measure (first=True has them).")
    if found.rows < FEW_ROWS * found.width:
        notes.append(
            f"{found.rows:,} rows are few for maps of {found.width} features: values are too high, "
            "and differences between layers may be of fit rather than of content."
        )
    if held.n_groups < 20:
        notes.append(f"{held.n_groups} held-out groups are few: intervals are too narrow.")
    return notes
