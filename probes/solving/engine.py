"""Who solves the probes: scikit-learn for small data, the batched torch solver for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from layerscope.probes.solving import scikit, solver
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.solver import Solution

Solver = Literal["auto", "sklearn", "torch"]

SMALL = 3e6
"""Rows x width x classes of one fit up to which scikit-learn is chosen on a CPU."""


@dataclass(frozen=True)
class Engine:
    """A solver and where it runs."""

    name: str
    device: str

    def logistic(
        self,
        design: Design,
        targets: Tensor,
        fits: Sequence[Fit],
        *,
        classes: int,
        tol: float | None = None,
        start: Tensor | None = None,
    ) -> Solution:
        """Multinomial logistic regression of every fit; see `solver.logistic`."""
        if self.name == "sklearn":
            return scikit.logistic(design, targets, fits, classes=classes)
        return solver.logistic(design, targets, fits, classes=classes, tol=tol or 1e-6, start=start)

    def ridge(self, design: Design, targets: Tensor, fits: Sequence[Fit]) -> Solution:
        """Ridge regression of every fit; see `solver.ridge`."""
        run = scikit.ridge if self.name == "sklearn" else solver.ridge
        return run(design, targets, fits)

    def __str__(self) -> str:
        return "scikit-learn" if self.name == "sklearn" else f"torch on {self.device}"


def engine(asked: Solver, work: float, *, device: str | None = None) -> Engine:
    """The solver for this much work.

    Args:
        asked: ``"auto"``, ``"sklearn"`` or ``"torch"``.
        work: Rows x width x classes of one fit.
        device: Such as ``"cuda"``; None takes CUDA where there is one.

    Raises:
        ValueError: another name, or scikit-learn on a device it cannot use.
    """
    if asked not in ("auto", "sklearn", "torch"):
        raise ValueError(f"solver must be 'auto', 'sklearn' or 'torch', got {asked!r}")
    if asked == "sklearn":
        if device not in (None, "cpu"):
            raise ValueError(f"solver='sklearn' runs on the CPU, not on {device!r}")
        return Engine("sklearn", "cpu")
    chosen = place(device)
    if asked == "auto" and chosen == "cpu" and work <= SMALL:
        return Engine("sklearn", "cpu")
    return Engine("torch", chosen)


def place(device: str | None) -> str:
    """The device asked for, or CUDA where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
