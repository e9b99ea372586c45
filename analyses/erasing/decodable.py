"""What a linear probe finds on held-out groups before and after erasing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.intervals import Floats, GroupBootstrap
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.engine import Engine, Solver, engine

L2 = 10.0
"""The probe's penalty, on standardised features against the summed loss: the same before and after."""


@dataclass(frozen=True, eq=False)
class Score:
    """What a probe scored on the held-out rows."""

    value: float
    """Accuracy, or R2."""
    loss: Floats
    """``[held rows]`` misses, or squared errors."""
    weights: Tensor
    """``[1, outputs, width + 1]``, to start the next one from."""
    balanced: float = float("nan")
    """Mean over classes of the share of its held-out rows that are found; NaN for numbers."""


@dataclass(frozen=True, eq=False)
class Held:
    """Rows of a plan, the first fold held out and the others for fitting."""

    plan: Plan
    solver: Solver = "auto"
    seed: int = 0

    @property
    def cut(self) -> int:
        """The first rows, up to here, are held out."""
        return self.plan.bounds[1]

    @property
    def dev(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Of the rows for fitting, those on which INLP decides when to stop."""
        rows = np.arange(self.cut, len(self.plan.index))
        return rows < self.plan.bounds[2]

    @property
    def outputs(self) -> int:
        return max(1, len(self.plan.classes))

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        groups = np.unique(self.plan.groups[: self.cut], return_inverse=True)[1]
        return GroupBootstrap(groups.astype(np.int64), seed=self.seed)

    @cached_property
    def scale(self) -> Floats:
        """``[held rows]`` ones, or squared deviations from the mean of the rows for fitting."""
        values = self.plan.values
        if self.plan.classes:
            return np.ones(self.cut)
        scale: Floats = (values[: self.cut] - values[self.cut :].mean()) ** 2
        return scale

    @cached_property
    def baseline(self) -> float:
        """The commonest class of the rows for fitting; 0 for R2."""
        if not self.plan.classes:
            return 0.0
        common = np.bincount(self.plan.values[self.cut :]).argmax()
        return float((self.plan.values[: self.cut] == common).mean())

    def engine(self, width: int) -> Engine:
        return engine(self.solver, len(self.plan.index) * width * self.outputs)

    def score(self, x: Tensor, start: Tensor | None = None) -> Score:
        """A probe trained on the other folds, on the rows of the first.

        Args:
            x: ``[rows, width]`` in the order of the plan.
        """
        by = self.engine(x.shape[1])
        design = Design.of(x, (0, self.cut, len(x)), device=by.device)
        target = torch.from_numpy(self.plan.values).to(by.device)
        one = [Fit(0, (0,), L2)]
        if not self.plan.classes:
            found = by.ridge(design, target[None].double(), one)
            guess = design.scores(0, found.weights[0].to(design.x.device))[:, 0].double()
            loss = (guess - target[: self.cut]).square()
        else:
            found = by.logistic(
                design, target[None], one, classes=self.outputs, tol=1e-6, start=start
            )
            guess = design.scores(0, found.weights[0].to(design.x.device))
            loss = (guess.argmax(1) != target[: self.cut]).double()
        lost: Floats = loss.double().cpu().numpy()
        value = float(1 - lost.sum() / self.scale.sum())
        return Score(value, lost, found.weights, self._balanced(lost))

    def _balanced(self, lost: Floats) -> float:
        if not self.plan.classes:
            return float("nan")
        codes = self.plan.values[: self.cut]
        rows = np.bincount(codes, minlength=self.outputs)
        found = np.bincount(codes, 1 - lost, minlength=self.outputs)
        return float((found[rows > 0] / rows[rows > 0]).mean())

    def change(self, before: Score, after: Score) -> tuple[float, float, float]:
        """Score after minus score before, with its 95 % interval over groups."""
        low, high = self.bootstrap.ratio(after.loss - before.loss, self.scale)
        return after.value - before.value, low - 1, high - 1
