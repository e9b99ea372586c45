"""At one site: the erasers of the label, and the erasers that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from layerscope.analyses.erasing.decodable import Held
from layerscope.probes.erasers.directions import (
    matched_directions,
    random_directions,
    removed_variance,
)
from layerscope.probes.erasers.eraser import Eraser
from layerscope.probes.erasers.fitting import eraser_of


@dataclass(frozen=True, eq=False)
class Erased:
    """One eraser of the label, with its controls."""

    eraser: Eraser
    removed: float
    """Share of the variance of the rows that it takes away."""
    random: tuple[Eraser, ...]
    """Random directions, as many."""
    matched: tuple[Eraser, ...]
    """Random directions, as many, that carry as much variance."""

    @property
    def all(self) -> tuple[Eraser, ...]:
        return (self.eraser, *self.random, *self.matched)


def erasers_at(
    site: str, x: Tensor, held: Held, methods: Sequence[str], draws: int, seed: int
) -> dict[str, Erased]:
    """Fitted on the rows that are not held out.

    Args:
        x: ``[rows, width]`` in the order of the plan.
    """
    plan = held.plan
    rows, values = x[held.cut :].double(), plan.values[held.cut :]
    center = rows.mean(0)
    covariance = (rows - center).T @ (rows - center) / len(rows)
    found = {}
    for method in methods:
        made = eraser_of(
            rows,
            values,
            held.dev,
            classes=len(plan.classes),
            method=method,
            seed=seed,
            solver=held.solver,
        )
        made = replace(made, site=site, label=plan.label)
        found[method] = controlled(made, covariance.cpu(), center.cpu(), draws, seed)
    return found


def controlled(made: Eraser, covariance: Tensor, center: Tensor, draws: int, seed: int) -> Erased:
    """The eraser with `draws` controls of either kind; none where it takes nothing away."""
    variance = removed_variance(made, covariance)
    several = range(draws) if made.rank else range(0)
    seeds = [seed * 1009 + draw for draw in several]
    words = {"site": made.site, "label": made.label}
    return Erased(
        eraser=made,
        removed=variance / max(float(torch.trace(covariance)), 1e-300),
        random=tuple(random_directions(center, made.rank, seed=s, **words) for s in seeds),
        matched=tuple(
            matched_directions(covariance, center, made.rank, variance, seed=s, **words)
            for s in seeds
        ),
    )
