"""Concept scrubbing (Belrose et al. 2023): every layer erased, each after those below it.

A layer that is erased leaves the next one free to compute the label again from what other
directions tell, so each eraser is fitted on a pass in which all layers below are already erased.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.erasing.asked import Questions
from layerscope.analyses.erasing.decodable import Held, Score
from layerscope.analyses.erasing.erasers import Erased, controlled
from layerscope.analyses.material.texts import Texts, run
from layerscope.hooks import edits
from layerscope.hooks.capture import capture
from layerscope.hooks.edits import edit
from layerscope.hooks.quiet import undisturbed
from layerscope.probes.erasers.eraser import Eraser
from layerscope.probes.erasers.fitting import eraser_of

TOKENS = 4096


@dataclass(frozen=True, eq=False)
class Scrubbed:
    """One site of the sequence."""

    site: str
    erased: Erased
    again: Score
    """What a probe finds there while all sites below are erased, and this one is not yet."""


def scrub(
    model: nn.Module,
    texts: Texts,
    frame: Any,
    held: Held,
    sites: Sequence[str],
    draws: int,
    seed: int,
) -> Iterator[Scrubbed]:
    """LEACE at one site after the other.

    Args:
        texts: All texts, in the order of the corpus.
        frame: The store's rows, of which the plan's are read again in every pass.
    """
    index = held.plan.index
    place = frame.iloc[index][["text", "position"]].to_numpy(dtype=np.int64)
    below: dict[str, Eraser] = {}
    for site in sites:
        x = _rows(model, texts, place, site, below)
        again = held.score(x)
        rows = x[held.cut :].double()
        made = eraser_of(
            rows, held.plan.values[held.cut :], held.dev, classes=len(held.plan.classes)
        )
        made = replace(made, site=site, label=held.plan.label, method="scrubbing")
        center = rows.mean(0)
        covariance = (rows - center).T @ (rows - center) / len(rows)
        below[site] = made
        yield Scrubbed(site, controlled(made, covariance, center, draws, seed), again)


def _rows(
    model: nn.Module,
    texts: Texts,
    place: NDArray[np.int64],
    site: str,
    below: dict[str, Eraser],
) -> Tensor:
    """``[rows, width]`` of one site at the places ``(text, position)``, with sites below erased."""
    wanted = np.unique(place[:, 0])
    found: Tensor | None = None
    order = np.argsort(place[:, 0], kind="stable")
    starts = np.searchsorted(place[order, 0], wanted)
    ends = np.append(starts[1:], len(order))
    chosen = Questions(texts.chosen(wanted.tolist()), {}, fills=False)
    for rows_of, ids in chosen.texts.batches(TOKENS):
        inner = chosen.inner(ids[0])
        changes = {name: edits.change(eraser, at=inner) for name, eraser in below.items()}
        state = _state(model, ids, site, changes)
        for line, text in enumerate(rows_of):
            rows = order[starts[text] : ends[text]]
            if found is None:
                found = torch.zeros(len(place), state.shape[-1])
            found[torch.from_numpy(rows)] = state[line, place[rows, 1]].float().cpu()
    assert found is not None
    return found


def _state(model: nn.Module, ids: Tensor, site: str, changes: dict[str, Any]) -> Tensor:
    with undisturbed(model), capture(model, [site]) as seen:
        if changes:
            with edit(model, changes):
                run(model, ids)
        else:
            run(model, ids)
    return seen[site]
