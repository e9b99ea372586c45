"""Which stored rows a layer compares with: classes from distances to a few real rows.

The frozen-layer version of Li, Liu, Chen and Rudin (2018): the centres are k-means', each is stood
for by the training row next to it, and squared distances to those rows go into a logistic
regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.kinds.kind import LabelKind, Predictions, Work
from layerscope.probes.kinds.linear import CLASS_L2, TOL, inner
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.prototypes import PrototypeReadout, squared_distances
from layerscope.probes.solving.design import Design, Fit

CENTRE_ROWS = 5_000
"""Rows that k-means sees: centres do not depend on how many there are."""


@dataclass(frozen=True)
class Prototypes(LabelKind):
    """Logistic regression on squared distances to medoids.

    It adds to the table, over held-out rows: `r2`, the mean squared distance to the nearest centre
    as a share of the variance (1: no better than the mean of all rows); `r1`, the same from each
    centre to the row that stands for it; `purity`, the share of rows that have the label of the
    prototype nearest to them; and `examples`, the rows of the store that the first fold chose.
    """

    name = "prototypes"
    tasks = ("class",)
    rule = (
        "features standardised on training rows, k-means without the label; the penalty of each "
        "fold by another fold of its training rows"
    )

    count: int | None = None
    """How many; None: two for each class."""
    restarts: int = 10
    """Of k-means, of which the tightest is taken."""

    def __post_init__(self) -> None:
        if (self.count is not None and self.count < 1) or self.restarts < 1:
            raise ValueError(
                f"count and restarts must be at least 1, got {self.count} and {self.restarts}"
            )

    def estimator(self, task: Task) -> str:
        count = "two for each class" if self.count is None else self.count
        return f"logistic on distances to prototypes ({count})"

    def predict(self, work: Work) -> Predictions:
        found = [self._fold(work, fold) for fold in work.design.folds]
        values = torch.cat([fold.values for fold in found], 1)
        means = {
            name: float(np.mean([fold.measures[name] for fold in found]))
            for name in ("r1", "r2", "purity")
        }
        columns = means | {"examples": " ".join(map(str, found[0].rows))}
        return Predictions(
            values.cpu().numpy(),
            tuple(fold.l2 for fold in found),
            sum(fold.unfinished for fold in found),
            columns,
        )

    def fit(self, work: Work, classes: tuple[Any, ...]) -> PrototypeReadout:
        cases = self._cases(work, ())
        design = cases.design
        fits = [Fit(0, (fold,), l2) for l2 in CLASS_L2 for fold in design.folds]
        trials = cases.losses(fits).reshape(len(CLASS_L2), -1)
        l2 = CLASS_L2[int(trials.sum(1).argmin())]
        weights = cases.trained([Fit(0, (), l2)], tol=1e-8)[0][0].cpu()
        scale = design.scale.cpu()
        weight = weights[:, :-1] / scale
        spread = work.design.spread()
        own = work.targets[0, torch.tensor(cases.positions, device=work.targets.device)]
        return PrototypeReadout(
            prototypes=cases.medoids.cpu(),
            weight=weight.contiguous(),
            bias=weights[:, -1] - weight @ design.mean.cpu(),
            mean=work.design.mean.cpu() + (spread.mean.float() * work.design.scale).cpu(),
            scale=torch.where(spread.scale > 0, work.design.scale * spread.scale, 1.0)
            .float()
            .cpu(),
            rows=_in_store(work, cases.positions),
            own=tuple(own.tolist()),
            classes=classes,
        )

    def _fold(self, work: Work, fold: int) -> _Fold:
        """What the probe that must not see this fold says of it."""
        cases = self._cases(work, (fold,))
        without = inner(fold, work.design.folds)
        losses = cases.losses([Fit(0, without, l2) for l2 in CLASS_L2])
        l2 = CLASS_L2[int(losses.argmin())]
        fits = [Fit(target, (fold,), l2) for target in range(len(work.targets))]
        weights, unfinished = cases.trained(fits, tol=TOL)
        values = torch.stack([cases.design.scores(fold, w).argmax(-1) for w in weights])
        return _Fold(values, l2, cases.measures(fold), _in_store(work, cases.positions), unfinished)

    def _cases(self, work: Work, without: Sequence[int]) -> _Cases:
        return _Cases(work, without, self.count or 2 * work.classes, self.restarts)


@dataclass(frozen=True)
class _Fold:
    values: Tensor  # [targets, rows of the fold]
    l2: float
    measures: dict[str, float]
    rows: tuple[int, ...]
    unfinished: int


class _Cases:
    """Prototypes from the rows outside some folds, and every row by its distances to them."""

    def __init__(self, work: Work, without: Sequence[int], count: int, restarts: int) -> None:
        self.work = work
        design = work.design
        spread = design.spread(without)
        unscale = torch.where(spread.scale > 0, 1 / spread.scale.clamp_min(1e-300), 0.0).float()
        self.z = (design.x[:, :-1] - spread.mean.float()) * unscale
        training = design.training(without)
        if count > len(training):
            raise ValueError(
                f"{count} prototypes from {len(training):,} training rows; ask for fewer"
            )
        self.centres = _centres(self.z[training], count, restarts, work.seed).to(self.z)
        nearest = _nearest(self.centres, self.z, training)
        self.positions: list[int] = nearest.tolist()
        self.medoids = self.z[nearest]
        self.design = Design.of(squared_distances(self.z, self.medoids), design.bounds)

    def trained(self, fits: Sequence[Fit], tol: float) -> tuple[Tensor, int]:
        """Weights ``[fits, classes, prototypes + 1]``, and how many had not settled."""
        work = self.work
        found = work.engine.logistic(self.design, work.targets, fits, classes=work.classes, tol=tol)
        return found.weights.to(self.z.device), found.unfinished

    def losses(self, fits: Sequence[Fit]) -> np.ndarray[Any, Any]:
        """Summed cross-entropy of each fit on the last of the folds it did not see."""
        weights, _ = self.trained(fits, tol=1e-4)
        found = []
        for fit, weight in zip(fits, weights, strict=True):
            held = fit.without[-1]
            truth = self.work.targets[0, self.design.fold(held)]
            scores = self.design.scores(held, weight)
            loss = torch.nn.functional.cross_entropy(scores, truth, reduction="sum")
            found.append(loss.item())
        return np.array(found)

    def measures(self, fold: int) -> dict[str, float]:
        """How well the prototypes stand for the rows of a fold that they do not come from."""
        rows = self.work.design.fold(fold)
        held, target = self.z[rows], self.work.targets[0]
        variance = held.square().sum(1).mean().clamp_min(1e-30)
        spread = squared_distances(held, self.centres).amin(1).mean()
        aside = (self.centres - self.medoids).square().sum(1).mean()
        nearest = squared_distances(held, self.medoids).argmin(1)
        own = target[torch.tensor(self.positions, device=target.device)]
        return {
            "r1": float(aside / variance),
            "r2": float(spread / variance),
            "purity": float((own[nearest] == target[rows]).float().mean()),
        }


def _centres(z: Tensor, count: int, restarts: int, seed: int) -> Tensor:
    """``[count, width]``"""
    from sklearn.cluster import KMeans

    stride = max(1, -(-len(z) // max(CENTRE_ROWS, 20 * count)))
    rows = z[::stride].cpu().numpy()
    clusters = KMeans(count, n_init=restarts, random_state=seed).fit(rows)
    return torch.from_numpy(clusters.cluster_centers_)


def _nearest(centres: Tensor, z: Tensor, training: Tensor) -> Tensor:
    """The training row next to each centre."""
    best = torch.full((len(centres),), torch.inf, device=z.device)
    where = torch.zeros(len(centres), dtype=torch.long, device=z.device)
    for rows in training.split(8192):
        distances, found = squared_distances(z[rows], centres).min(0)
        closer = distances < best
        best = torch.where(closer, distances, best)
        where = torch.where(closer, rows[found], where)
    return where


def _in_store(work: Work, positions: Sequence[int]) -> tuple[int, ...]:
    index = work.index
    return tuple(positions) if index is None else tuple(int(index[i]) for i in positions)
