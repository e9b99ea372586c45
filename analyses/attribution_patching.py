"""`attribution_patching`: the whole patching map from one gradient, beside true patches.

Nanda 2023; Syed et al. 2023; Kramár et al. 2024 (AtP*).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.material.pairs import PairBatch, Pairs, as_pairs
from layerscope.analyses.material.token_axis import places_of
from layerscope.analyses.patches.attribution_patching_finding import AttributionPatchingFinding
from layerscope.analyses.patches.patch_cells import Cell, cells_of, head_places, sites_of
from layerscope.analyses.patches.patching_table import notes_of, table_of
from layerscope.analyses.patching import Patcher, shapes_of, ways_of
from layerscope.finding import Provenance
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.quiet import undisturbed

CHECKED = 0.05
FEWEST = 30


def attribution_patching(
    model: nn.Module,
    clean: Any,
    corrupt: Any,
    answers: Sequence[Any],
    wrong: Sequence[Any] | None = None,
    *,
    sites: str | Sequence[str] | None = None,
    positions: Any = None,
    direction: str = "denoise",
    metric: str | None = None,
    check: float | None = None,
    tokenizer: Any = None,
    max_rows: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> AttributionPatchingFinding:
    """Estimate what every patch would do: difference of the activations times the gradient.

    The gradient is taken in the run that would be patched, so the estimate is exact where all that
    follows is linear, and wrong where it bends: early in the stream, and where attention is
    saturated. A random part of the cells is therefore patched for real, and both numbers are shown.

    Args:
        model: A decoder with logits; it is left as it was.
        clean: As in `patching`, like the other arguments that are not named here.
        corrupt: For each clean prompt one of as many tokens.
        answers: The right answers to the clean prompts.
        wrong: The right answers to the corrupt prompts.
        sites: Kinds, sites or patterns; None: the stream into each block, attention and MLP.
        positions: Where; None: at every position.
        direction: ``"denoise"`` or ``"noise"``.
        metric: ``"logit_diff"``, ``"logprob"`` or ``"prob"``.
        check: How many cells to patch for real: a share (0.05), a number, 0 for none. None: 5 % and
            at least 30.
        tokenizer: Defaults to the model's own.
        max_rows: Pairs whose gradients are taken together.
        seed: Of the cells that are checked, and of the intervals.
        progress: Whether to show a bar.

    Raises:
        IndexError, LookupError, ValueError: as in `patching`.
    """
    started = time.perf_counter()
    if metric == "kl":
        raise ValueError(
            "metric='kl' has no gradient in the run it is measured from, where it is least; use "
            "'logit_diff', 'logprob' or 'prob'"
        )
    (way,) = ways_of([direction])
    pairs = as_pairs(model, clean, corrupt, answers, wrong, metric=metric, tokenizer=tokenizer)
    places = places_of(pairs.clean, positions, others=pairs.corrupt)
    with undisturbed(model):
        chosen = sites_of(model, sites)
        shapes = shapes_of(model, pairs, chosen)
        cells = cells_of(chosen, places, shapes, head_places(places, positions))
        estimate, ends = _estimates(model, pairs, cells, chosen, way, max_rows, progress)
        checked = _chosen(len(cells), check, seed)
        patcher = Patcher(model, pairs, [cells[i] for i in checked], [way])
        if checked:
            patcher.run(max_rows, progress)
    table = table_of(pairs, cells, ends, {way: estimate}, seed=seed)
    table = table.assign(estimator="gradient", exact=np.nan)
    if checked:
        true = table_of(pairs, patcher.cells, ends, patcher.values, seed=seed)
        table.loc[checked, "exact"] = true["value"].to_numpy()
    blocks = len(anatomy(model).blocks)
    return AttributionPatchingFinding(
        table=table,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(pairs):,} pairs of prompts",
            parameters={
                "sites": sites or list(dict.fromkeys(cell.kind for cell in cells)),
                "positions": [place.label for place in places],
                "direction": direction,
                "metric": pairs.metric,
                "checked": len(checked),
                # Two forward passes, and a backward one that costs as much as two.
                "layer_evaluations": 4 * blocks * len(pairs),
                "layer_evaluations_of_checks": patcher.costs()["layer_evaluations"],
                "layer_evaluations_by_whole_passes": (2 + len(cells)) * blocks * len(pairs),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*notes_of(pairs, ends, [way]), *pairs.notes, *patcher.notes),
    )


def _estimates(
    model: nn.Module,
    pairs: Pairs,
    cells: Sequence[Cell],
    sites: Sequence[str],
    way: str,
    max_rows: int,
    progress: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`[cells, pairs]` estimated metric after each patch, and the metric of both runs."""
    from tqdm.auto import tqdm

    found = torch.zeros(len(cells), len(pairs), dtype=torch.double)
    ends = {end: torch.zeros(len(pairs), dtype=torch.double) for end in ("clean", "corrupt")}
    to, other = ("corrupt", "clean") if way == "denoise" else ("clean", "corrupt")
    for batch in tqdm(
        pairs.batches(max_rows), desc="gradients", unit="batch", disable=not progress
    ):
        ids = {"clean": batch.clean, "corrupt": batch.corrupt}
        source, value = _seen(model, batch, ids[other], sites)
        ends[other] += value
        own, gradients, value = _graded(model, batch, ids[to], sites)
        ends[to] += value
        product = {site: (source[site] - own[site]).double() * gradients[site] for site in sites}
        for number, cell in enumerate(cells):
            each = _within(product[cell.site], cell, batch.prompt)
            found[number].index_add_(0, batch.prompt, each.cpu())
    return found + ends[to], ends


def _seen(
    model: nn.Module, batch: PairBatch, ids: Tensor, sites: Sequence[str]
) -> tuple[Mapping[str, Tensor], Tensor]:
    with torch.no_grad(), capture(model, list(sites)) as seen:
        logits = _logits(model(input_ids=ids))
    return seen, batch.measure(logits[:, -batch.measure.last :])[0].cpu()


def _graded(
    model: nn.Module, batch: PairBatch, ids: Tensor, sites: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """What the sites hold, and the gradient of the metric at each: that of zeros added there."""
    own: dict[str, Tensor] = {}
    leaves: dict[str, Tensor] = {}

    def added(site: str) -> edits.Change:
        def add(x: Tensor) -> Tensor:
            own[site] = x.detach().clone()
            leaves[site] = torch.zeros_like(x, requires_grad=True)
            return x + leaves[site]

        return edits.change(add)

    changes: dict[int | str, Any] = {site: added(site) for site in sites}
    with torch.enable_grad(), edits.edit(model, changes):
        logits = _logits(model(input_ids=ids))
        value = batch.measure(logits[:, -batch.measure.last :])
        wanted = [leaves[site] for site in sites]
        given = torch.autograd.grad(value.sum(), wanted, materialize_grads=True)
    gradients = {site: g.double() for site, g in zip(sites, given, strict=True)}
    return own, gradients, value.detach()[0].cpu()


def _within(product: Tensor, cell: Cell, prompts: Tensor) -> Tensor:
    """`[rows]` the sum over what one patch replaces."""
    if cell.kind in ("q", "k", "v"):
        product = product.transpose(1, 2)  # as z: rows, positions, heads, width
    if cell.head is not None:
        product = product[:, :, cell.head]
    each = product.flatten(2).sum(-1)
    if cell.place.at is None:
        return each.sum(1)
    return each.gather(1, cell.place.at[prompts, None].to(each.device))[:, 0]


def _logits(output: Any) -> Tensor:
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def _chosen(cells: int, check: float | None, seed: int) -> list[int]:
    """The cells that are patched for real."""
    if check is None:
        count = max(FEWEST, round(CHECKED * cells))
    elif check < 0:
        raise ValueError(f"check is a share or a number of cells, got {check}")
    else:
        count = round(check * cells) if isinstance(check, float) else check
    order = torch.randperm(cells, generator=torch.Generator().manual_seed(seed))
    return sorted(order[: min(count, cells)].tolist())
