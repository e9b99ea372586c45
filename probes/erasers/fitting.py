"""`fit_eraser`: an eraser of a label at one site of a store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.erasers.directions import mean_difference, random_directions
from layerscope.probes.erasers.eraser import Eraser
from layerscope.probes.erasers.inlp import STEPS, inlp
from layerscope.probes.erasers.leace import LeaceFit
from layerscope.probes.reading.labels import Task
from layerscope.probes.reading.rows import Pieces, plan
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.solving.engine import Solver

if TYPE_CHECKING:
    from layerscope.store import Store

Method = Literal["leace", "inlp", "random", "mean_difference"]
METHODS: tuple[str, ...] = get_args(Method)
_CHUNK = 65536


def fit_eraser(
    store: Store,
    site: str | int,
    label: str | None = None,
    *,
    method: Method = "leace",
    rank: int | None = None,
    task: Task | None = None,
    pieces: Pieces = "all",
    steps: int = STEPS,
    max_rows: int = 50_000,
    folds: int = 5,
    seed: int = 0,
    solver: Solver = "auto",
) -> Eraser:
    """An eraser of `label`, fitted on the rows of a store that have it.

    Args:
        site: One site, or the number of a layer.
        label: A label column, classes or numbers; None takes the only one, or ``upos``.
        method: ``"leace"``; ``"inlp"``; ``"mean_difference"`` (projects the differences of the class
            means out; classes only); ``"random"``: random directions, as a control.
        rank: Of ``"random"`` only: how many directions; None takes what LEACE would need.
        pieces: As in `probe`; all pieces of a word by default, since an edit meets them all.
        steps: Of ``"inlp"`` only: how many probes at most.
        folds: Of ``"inlp"`` only: one fold of groups says when to stop.

    Raises:
        LookupError: unknown site or label.
        ValueError: unknown method, and what `probe` refuses.
    """
    from layerscope.probes.reading.stored import stored_sites

    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    name = stored_sites(store, site)[0]
    rows = plan(store, label, task=task, pieces=pieces, folds=folds, max_rows=max_rows, seed=seed)
    x = store[name][rows.index]
    check_finite(name, x, rows.index)
    made = eraser_of(
        x,
        rows.values,
        np.arange(len(x)) < rows.bounds[1],
        classes=len(rows.classes),
        method=method,
        rank=rank,
        steps=steps,
        seed=seed,
        solver=solver,
    )
    about = {"store_key": store.key, "classes": list(rows.classes), "notes": list(rows.notes)}
    return replace(made, site=name, label=rows.label, about=made.about | about)


def eraser_of(
    x: Tensor,
    y: NDArray[Any],
    dev: NDArray[np.bool_],
    *,
    classes: int,
    method: str = "leace",
    rank: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
    solver: Solver = "auto",
) -> Eraser:
    """An eraser from rows ``[rows, width]`` with class numbers, or numbers where `classes` is 0.

    Args:
        dev: ``[rows]`` which rows INLP keeps from training; the other methods use all rows.

    Raises:
        ValueError: class means are asked for of a label that is a number.
    """
    if method == "inlp":
        return inlp(x, y, dev, classes=classes, steps=steps, solver=solver)
    if method == "mean_difference":
        if not classes:
            raise ValueError("mean_difference needs classes; a number has no class means")
        return mean_difference(x, y, about={"rows": len(x)})
    if method == "random" and rank is not None:
        return random_directions(x.double().mean(0).cpu(), rank, seed=seed)
    fit = LeaceFit(x.shape[1], range(classes))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        fit.update(x[part], torch.from_numpy(y[part]))
    made = fit.result()
    if method == "random":
        return random_directions(made.center, made.rank, seed=seed, about={"rows": len(x)})
    return made
