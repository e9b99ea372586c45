"""A sparse bottleneck of concepts: the label from the scores of few named directions.

Directions are given, or are the mass-mean directions of another label. Training rows give each
score a mean and a deviation, and a logistic regression with an l1 penalty reads the label off them
(Semenov, Ivanov, Beznosikov and Gasnikov 2024, on any layer). With `matrix` nothing is trained:
the class whose row points most the same way as the scores is taken (their concept matrix search).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.kinds.kind import Further, LabelKind, Predictions, Work
from layerscope.probes.kinds.linear import inner
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.concepts import ConceptReadout, cosines
from layerscope.probes.solving.engine import Engine
from layerscope.probes.solving.sparse import sparse_path, strongest

PATH: tuple[float, ...] = tuple(np.logspace(0, -3, 13).tolist())
"""Penalties that are tried, as shares of the least one at which all weights are zero."""
TUNING_ROWS = 5_000
"""Training rows on which penalties are compared."""
SMALL = 0.1
"""Weights below this share of the largest one of their class are cut for `thresholded`."""
TOL = 1e-6
"""Nats per row."""
_CONSTANT = 1e-5  # of the length of rows times that of the direction


@dataclass(frozen=True, eq=False)
class Concepts(LabelKind):
    """Logistic regression with an l1 penalty on concept scores, or concept matrix search.

    It adds to the table: `concepts`, how many have a weight for any class; `nonzero`, how many
    weights are not zero (both medians over folds); and `thresholded`, the accuracy with every
    weight cut that is below a tenth of its class's largest: what small weights leak.

    Raises:
        ValueError: neither or both of `directions` and `label`, or shapes that do not fit.
    """

    name = "concepts"
    tasks = ("class",)
    rule = (
        "concept scores standardised on training rows; the strongest l1 penalty within one "
        "standard error of the least log-loss on another fold of the training rows"
    )

    directions: Tensor | None = None
    """``[concepts, width]`` in the model's own coordinates."""
    label: str | None = None
    """Another label column: one direction for each class, its mean less the mean of the others."""
    names: tuple[str, ...] = ()
    """Of the directions, where they are given."""
    matrix: Tensor | None = None
    """``[classes, concepts]``, classes in sorted order: no fit, but concept matrix search."""
    l1: float | None = None
    """The penalty, in nats per row; None chooses it."""

    def __post_init__(self) -> None:
        if (self.directions is None) == (self.label is None):
            raise ValueError(
                "concepts need directions=[concepts, width], or label= another label column whose "
                "classes they are; give one of the two, as kind=kinds.Concepts(...)"
            )
        if self.directions is not None and self.directions.ndim != 2:
            raise ValueError(f"directions are [concepts, width], got {list(self.directions.shape)}")

    def further_label(self) -> str | None:
        return self.label

    def estimator(self, task: Task) -> str:
        return "concept matrix search" if self.matrix is not None else "l1 logistic on concepts"

    def solved_by(self, engine: Engine, task: Task) -> str:
        how = "cosines" if self.matrix is not None else "proximal steps"
        return f"{how}, torch on {engine.device}"

    def options(self) -> dict[str, Any]:
        shapes = {
            name: None if part is None else list(part.shape)
            for name, part in (("directions", self.directions), ("matrix", self.matrix))
        }
        return {"label": self.label, "names": list(self.names), "l1": self.l1} | shapes

    def predict(self, work: Work) -> Predictions:
        found = [self._fold(work, fold) for fold in work.design.folds]
        values = torch.cat([fold.values for fold in found], 1).cpu().numpy()
        if self.matrix is not None:
            return Predictions(values)
        hard = torch.cat([fold.hard for fold in found])
        columns = {
            "concepts": median(fold.concepts for fold in found),
            "nonzero": median(fold.nonzero for fold in found),
            "thresholded": float((hard == work.targets[0]).double().mean()),
        }
        unfinished = sum(fold.unfinished for fold in found)
        return Predictions(values, tuple(fold.l1 for fold in found), unfinished, columns)

    def fit(self, work: Work, classes: tuple[Any, ...]) -> ConceptReadout:
        bottleneck = Bottleneck(self, work, ())
        if self.matrix is not None:
            weight, bias = self._searched(bottleneck), torch.zeros(len(classes))
            l1 = 0.0
        else:
            l1 = self._penalty(bottleneck)
            weights, _ = bottleneck.trained(0, (), l1, tol=1e-9)
            weight, bias = weights[:, :-1], weights[:, -1]
        return ConceptReadout(
            directions=bottleneck.directions.cpu(),
            mean=bottleneck.mean.cpu(),
            scale=bottleneck.scale.cpu(),
            weight=weight.cpu().contiguous(),
            bias=bias.cpu().contiguous(),
            concepts=bottleneck.names,
            search=self.matrix is not None,
            l1=l1,
            classes=classes,
        )

    def _penalty(self, bottleneck: Bottleneck) -> float:
        """For all rows: the median of those that each fold would choose."""
        if self.l1 is not None:
            return self.l1
        folds = bottleneck.work.design.folds
        return median(bottleneck.chosen(0, (fold,), fold) for fold in folds)

    def _fold(self, work: Work, fold: int) -> _Fold:
        bottleneck = Bottleneck(self, work, (fold,))
        held = bottleneck.x[work.design.fold(fold)]
        if self.matrix is not None:
            values = cosines(held, self._searched(bottleneck)).argmax(-1)
            return _Fold(values.expand(len(work.targets), -1), values)
        l1 = self.l1
        if l1 is None:
            without = inner(fold, work.design.folds)
            l1 = bottleneck.chosen(0, without, without[1])
        found = [bottleneck.trained(t, (fold,), l1) for t in range(len(work.targets))]
        values = torch.stack([_scores(held, weights).argmax(-1) for weights, _ in found])
        weights = found[0][0]
        there = weights[:, :-1] != 0
        return _Fold(
            values,
            _scores(held, thresholded(weights)).argmax(-1),
            l1,
            int(there.any(0).sum()),
            int(there.sum()),
            sum(count for _, count in found),
        )

    def _searched(self, bottleneck: Bottleneck) -> Tensor:
        """The class rows, centred as the scores are and in their units."""
        assert self.matrix is not None
        shape = (bottleneck.work.classes, bottleneck.x.shape[1])
        if self.matrix.shape != shape:
            raise ValueError(
                f"matrix is [classes, concepts], here {list(shape)}, got {list(self.matrix.shape)}"
            )
        rows = self.matrix.to(bottleneck.x)
        return (rows - rows.mean(0)) / bottleneck.scale


@dataclass(frozen=True)
class _Fold:
    values: Tensor  # [targets, rows of the fold]
    hard: Tensor  # [rows of the fold]
    l1: float = 0.0
    concepts: int = 0
    nonzero: int = 0
    unfinished: int = 0


class Bottleneck:
    """Concept scores of all rows, by what the rows outside some folds say of their scale.

    Args:
        kind: Where the directions come from.
        work: The rows.
        without: Folds that neither scale nor directions may depend on.
    """

    def __init__(self, kind: Concepts, work: Work, without: Sequence[int]) -> None:
        self.work, self.without = work, tuple(without)
        design = work.design
        spread = design.spread(without)
        self.mean = design.mean + spread.mean.float() * design.scale
        self.directions, self.names = self._directions(kind)
        raw = design.x[:, :-1] * design.scale @ self.directions.T
        raw -= spread.mean.float() * design.scale @ self.directions.T
        deviation = raw[design.training(without)].square().mean(0).sqrt()
        # What float32 leaves of a score that does not vary must not be blown up to a deviation of 1.
        length = (spread.scale * design.scale).norm().float() * self.directions.norm(dim=1)
        self.scale = torch.where(deviation > _CONSTANT * length, deviation, 1.0)
        self.x = raw / self.scale
        """``[rows, concepts]`` mean 0 and deviation 1 over the training rows."""

    def trained(
        self, target: int, without: Sequence[int], l1: float, tol: float = TOL
    ) -> tuple[Tensor, int]:
        """Weights ``[classes, concepts + 1]`` at one penalty, and whether the steps ran out."""
        rows = self.work.design.training(without)
        x, y = self.x[rows], self.work.targets[target, rows]
        # Stronger penalties on the way are quick, and the last one starts near its end.
        path = [p * self._strongest(x, y) for p in (0.5, 0.2, 0.05)]
        path = [*(p for p in path if p > l1), l1]
        found = sparse_path(x, y, path, classes=self.work.classes, tol=tol)
        return found.weights[-1], found.unfinished

    def chosen(self, target: int, without: Sequence[int], held: int) -> float:
        """The strongest penalty within one standard error of the least loss on a held-out fold."""
        rows = self.work.design.training(without)
        rows = rows[:: max(1, -(-len(rows) // TUNING_ROWS))]
        x, y = self.x[rows], self.work.targets[target, rows]
        path = [share * self._strongest(x, y) for share in PATH]
        part = self.work.design.fold(held)
        truth = self.work.targets[target, part]
        losses = torch.stack(
            [
                torch.nn.functional.cross_entropy(
                    _scores(self.x[part], weights), truth, reduction="none"
                )
                for weights in sparse_path(x, y, path, classes=self.work.classes, tol=1e-5).weights
            ]
        ).double()
        means = losses.mean(1)
        best = int(means.argmin())
        limit = float(means[best] + losses[best].std() / len(truth) ** 0.5)
        return next(l1 for l1, mean in zip(path, means.tolist(), strict=True) if mean <= limit)

    def _strongest(self, x: Tensor, y: Tensor) -> float:
        return max(strongest(x, y, self.work.classes), 1e-12)

    def _directions(self, kind: Concepts) -> tuple[Tensor, tuple[Any, ...]]:
        design = self.work.design
        if kind.directions is None:
            further = self.work.further
            if further is None:
                raise ValueError(
                    f"label={kind.label!r} is a column of a store: use probe(store, ...) or "
                    "fit_readout(store, ...), or give directions"
                )
            return self._mass_means(further), further.classes
        if kind.directions.shape[1] != design.width:
            raise ValueError(
                f"directions have width {kind.directions.shape[1]}, this site {design.width}"
            )
        return kind.directions.float().to(design.x.device), kind.names

    def _mass_means(self, further: Further) -> Tensor:
        """``[concepts, width]``: the mean of each class less the mean of the other rows."""
        rows = self.work.design.training(self.without)
        codes = torch.from_numpy(further.codes).to(rows.device)[rows]
        rows, codes = rows[codes >= 0], codes[codes >= 0]
        one_hot = torch.nn.functional.one_hot(codes, len(further.classes)).double()
        sums = one_hot.T @ self.work.design.x[rows, :-1].double()
        counts = one_hot.sum(0)[:, None]
        others = (sums.sum(0) - sums) / (counts.sum() - counts).clamp_min(1)
        gap = sums / counts.clamp_min(1) - others
        return (gap * (counts > 0)).float() * self.work.design.scale


def thresholded(weights: Tensor, share: float = SMALL) -> Tensor:
    """Weights ``[classes, concepts + 1]`` with the small ones of each class cut; biases stay."""
    features = weights[:, :-1]
    kept = features.abs() >= share * features.abs().amax(1, keepdim=True)
    return torch.cat([features * kept, weights[:, -1:]], 1)


def _scores(x: Tensor, weights: Tensor) -> Tensor:
    return x @ weights[:, :-1].T + weights[:, -1]
