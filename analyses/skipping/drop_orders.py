"""In which order parts are left out of a model: by similarity or by loss, at once or step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import nn

from layerscope.analyses.material.texts import Texts
from layerscope.analyses.skipping.cosines import Cosines, sites_of
from layerscope.analyses.skipping.drop_losses import Losses, changes_of
from layerscope.analyses.skipping.similarity_sources import from_texts, model_sites, plan
from layerscope.hooks.bypass import Part
from layerscope.hooks.edits import edit

ORDERS = ("one-shot", "iterative", "consecutive")
KINDS: Mapping[str, tuple[str, ...]] = {
    "block": ("block",),
    "attention": ("attention",),
    "mlp": ("mlp",),
    "joint": ("attention", "mlp"),
}
Score = Callable[[Sequence[Part]], dict[Part, float]]
"""Importance of every part that is left, in the model without the given ones."""


def by_similarity(model: nn.Module, texts: Texts, kinds: Sequence[str]) -> Score:
    """1 minus the cosine of input and output, residual on both sides (He et al. 2024)."""

    def score(dropped: Sequence[Part]) -> dict[Part, float]:
        found = cosines(model, texts, dropped)
        means = found.sums.sum((0, 1)) / found.counts.sum()
        pairs = zip(found.pairs, means, strict=False)
        scores = {(p.part, p.layer): 1 - float(x) for p, x in pairs if p.part in kinds}
        return {part: x for part, x in scores.items() if part not in dropped}

    return score


def by_loss(losses: Losses, candidates: Sequence[Part]) -> Score:
    """The loss without each part: slower, and closer to what counts."""

    def score(dropped: Sequence[Part]) -> dict[Part, float]:
        left = [part for part in candidates if part not in dropped]
        sums = losses.of([[*dropped, part] for part in left]).sum(1)
        return dict(zip(left, (sums / losses.counts.sum()).tolist(), strict=True))

    return score


def cosines(model: nn.Module, texts: Texts, dropped: Sequence[Part]) -> Cosines:
    """Cosines in the model without some parts; runs of blocks only in the whole model."""
    chosen = plan(model_sites(model))
    found = Cosines(chosen.pairs, () if dropped else chosen.stream)
    sites = sites_of([s for p in chosen.pairs for s in (p.before, p.after)])
    with edit(model, changes_of(dropped)) if dropped else nullcontext():
        for states, groups, positions in from_texts(model, texts, sites, tokens=2048):
            found.update(states, groups, positions)
    return found


def one_shot(score: Score, most: int) -> list[list[Part]]:
    """Score the whole model once; drop the least important n, for n = 1 to `most`."""
    scores = score([])
    order = sorted(scores, key=scores.__getitem__)
    return [order[:n] for n in range(1, most + 1)]


def iterative(score: Score, most: int) -> list[list[Part]]:
    """Drop the least important part, score what is left again, and so on."""
    dropped: list[Part] = []
    for _ in range(most):
        scores = score(dropped)
        dropped = [*dropped, min(scores, key=scores.__getitem__)]
    return [dropped[:n] for n in range(1, most + 1)]


def consecutive(found: Cosines, most: int) -> list[list[Part]]:
    """For each n the n blocks in a row over which input and output are most alike."""
    means = found.sums.sum((0, 1)) / found.counts.sum()
    runs = [(p.layer, 1) for p in found.pairs if p.part == "block"]
    blocks = [i for i, p in enumerate(found.pairs) if p.part == "block"]
    values = [*means[blocks], *means[len(found.pairs) :]]
    best: dict[int, tuple[float, int]] = {}
    for (start, n), value in zip([*runs, *found.gaps], values, strict=True):
        if n not in best or value > best[n][0]:
            best[n] = (value, start)
    return [[("block", best[n][1] + k) for k in range(n)] for n in range(1, most + 1)]


def at_random(
    candidates: Sequence[Part], most: int, draws: int, seed: int
) -> list[list[list[Part]]]:
    """For each draw a random order, and its first n parts for n = 1 to `most`."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(candidates), generator=generator).tolist() for _ in range(draws)]
    return [[[candidates[i] for i in order[:n]] for n in range(1, most + 1)] for order in orders]
