"""Fitting readouts: `LogisticFit` and `RidgeFit` grow with data, `fit` does all at once.

Each ends in a `Readout`, which no longer learns and only applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds import Kind, as_kind, label_kind
from layerscope.probes.kinds.kind import Further, Work
from layerscope.probes.kinds.linear import linear_readout
from layerscope.probes.reading.labels import Task, class_codes
from layerscope.probes.reading.rows import codes_of, plan
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.readouts.readout import Readout
from layerscope.probes.scoring.ensemble import further_of
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.engine import Solver, engine
from layerscope.probes.solving.solver import RidgePath

if TYPE_CHECKING:
    from layerscope.store import Store


class LogisticFit:
    """Multinomial logistic regression that grows with data; keeps the rows it was given."""

    def __init__(self, classes: Sequence[Any]) -> None:
        self.classes = tuple(classes)
        self._rows: list[Tensor] = []
        self._codes: list[Tensor] = []

    def update(self, x: Tensor, y: Sequence[Any]) -> Self:
        """Add rows ``[rows, width]`` with their classes.

        Raises:
            ValueError: a class that is not among `classes`, or as many labels as rows are not there.
        """
        number = {value: i for i, value in enumerate(self.classes)}
        unknown = sorted({str(value) for value in y if value not in number})
        if unknown:
            raise ValueError(f"classes {unknown[:5]} are not among {list(self.classes)[:20]}")
        _check_lengths(x, y)
        self._rows.append(x.float())
        self._codes.append(torch.tensor([number[value] for value in y]))
        return self

    def result(self, *, l2: float = 1.0, solver: Solver = "auto") -> LinearReadout:
        """The readout of minimal summed cross-entropy plus ``l2 / 2 * |weight|**2``."""
        x, codes = torch.cat(self._rows), torch.cat(self._codes)
        chosen = engine(solver, x.numel() * len(self.classes))
        design = Design.of(x, (0, len(x)), device=chosen.device)
        found = chosen.logistic(
            design,
            codes[None].to(chosen.device),
            [Fit(0, (), l2)],
            classes=len(self.classes),
            tol=1e-8,
        )
        return linear_readout(design, found.weights[0], classes=self.classes, l2=l2)


class RidgeFit:
    """Ridge regression that grows with data; memory is ``width**2``, whatever the rows."""

    def __init__(self, width: int) -> None:
        self._moments = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        self._products = torch.zeros(1, width + 1, dtype=torch.float64)
        self._total = torch.zeros(1, dtype=torch.float64)

    def update(self, x: Tensor, y: Tensor | Sequence[float]) -> Self:
        """Add rows ``[rows, width]`` with their numbers ``[rows]``."""
        _check_lengths(x, y)
        rows = torch.cat([x.double().cpu(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        values = torch.as_tensor(y, dtype=torch.float64)
        self._moments += rows.T @ rows
        self._products += values[None] @ rows
        self._total += values.sum()
        return self

    def result(self, *, l2: float = 1.0) -> LinearReadout:
        """The readout of least ``1/2 * squared error + l2 / 2 * |weight|**2``, exactly."""
        rows = int(self._moments[-1, -1])
        path = RidgePath(self._moments, self._products, self._total, rows)
        weights = path.weights(0, l2)
        scale = torch.where(path.unscale > 0, 1 / path.unscale, 1.0)
        return LinearReadout(
            weight=(weights[:-1] * scale)[None].float(),
            bias=path.center.float(),
            mean=path.mean.float(),
            scale=scale.float(),
            l2=l2,
        )


def fit(
    x: Tensor,
    y: Sequence[Any] | Tensor | NDArray[Any],
    *,
    kind: str | Kind = "linear",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    task: Task | None = None,
    folds: int = 5,
    seed: int = 0,
    solver: Solver = "auto",
) -> Readout:
    """Train a readout on all rows.

    Args:
        x: ``[rows, width]`` activations.
        y: ``[rows]`` classes or numbers.
        kind: As for `probe`; one that reads a label from the rows of one site.
        groups: ``[rows]`` what must not straddle a split when the penalty is chosen; None: each
            row is its own group.
        task: ``"class"`` or ``"number"``; None decides by the values, as `probe` does.

    Raises:
        ValueError: one class only, rows and labels of different lengths, NaN activations, too
            few groups for the folds, or a kind that needs more than rows and labels.
    """
    return _fit(x, y, kind, groups, task, folds, seed, solver)


def _fit(
    x: Tensor,
    y: Sequence[Any] | Tensor | NDArray[Any],
    kind: str | Kind,
    groups: Sequence[Any] | NDArray[Any] | None,
    task: Task | None,
    folds: int,
    seed: int,
    solver: Solver,
    index: NDArray[np.int64] | None = None,
    further: Further | None = None,
) -> Readout:
    """As `fit`, with what only rows of a store have: where they are, and their other label."""
    import pandas as pd

    from layerscope.corpus.splits import group_folds

    _check_lengths(x, y)
    check_finite("x", x, np.arange(len(x)))
    found_task, values, classes = class_codes(y, task)
    chosen = label_kind(kind, found_task)
    owners = codes_of(pd.Series(np.arange(len(x)) if groups is None else np.asarray(groups)))
    fold = group_folds(values, owners, folds=folds, seed=seed)
    order = np.argsort(fold, kind="stable")
    bounds = np.searchsorted(fold[order], range(folds + 1))
    by = engine(solver, x.numel() * max(1, len(classes)))
    design = Design.of(x[torch.from_numpy(order)], bounds.tolist(), device=by.device)
    target = torch.from_numpy(values[order]).to(by.device)[None]
    where = order if index is None else index[order]
    also = None if further is None else replace(further, codes=further.codes[order])
    work = Work(design, target, len(classes), by, owners[order], seed, where, also)
    return chosen.fit(work, classes)


def fit_readout(
    store: Store,
    site: str | int,
    label: str | None = None,
    *,
    kind: str | Kind = "linear",
    task: Task | None = None,
    max_rows: int = 50_000,
    folds: int = 5,
    seed: int = 0,
    solver: Solver = "auto",
) -> Readout:
    """The readout of `label` at one site of a store, trained on all the rows `probe` would use.

    Its accuracy on the rows it was trained on says nothing: `probe` measures what it is worth.
    """
    from layerscope.probes.reading.stored import stored_sites

    name = stored_sites(store, site)[0]
    rows = plan(store, label, task=task, folds=folds, max_rows=max_rows, seed=seed)
    y = [rows.classes[code] for code in rows.values] if rows.classes else rows.values
    x = store[name][rows.index]
    chosen = as_kind(kind)
    readout = _fit(
        x,
        y,
        chosen,
        rows.groups,
        rows.task,
        folds,
        seed,
        solver,
        rows.index,
        further_of(store, chosen, rows),
    )
    about = {"store_key": store.key, "rows": len(x), "notes": list(rows.notes)}
    return replace(readout, site=name, label=rows.label, about=about)


def _check_lengths(x: Tensor, y: Any) -> None:
    if x.ndim != 2 or len(x) != len(y):
        raise ValueError(
            f"x must be [rows, width] with one label a row, got {list(x.shape)} and {len(y)}"
        )
