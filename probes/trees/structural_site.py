"""One site: distances and depths of every sentence by probes that saw no sentence of its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.trees.dependency import Forest
from layerscope.probes.trees.descent import TreeFit
from layerscope.probes.trees.quadratic import Form, projected
from layerscope.probes.trees.stacks import Stack, depth_stacks, distance_stacks
from layerscope.probes.trees.tree_scores import TreeScores, tree_scores

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Guess:
    """Predictions for every sentence."""

    distances: Arrays
    """``[words, words]`` each."""
    depths: Arrays
    """``[words]`` each."""


@dataclass(frozen=True)
class TreeTask:
    """Trees to be found, and the folds of their sentences."""

    trees: Forest
    fold: NDArray[np.int64]
    """``[sentences]``"""
    rank: int
    components: int
    epochs: int
    seed: int = 0
    device: str = "cpu"

    @cached_property
    def distances(self) -> list[Stack]:
        return distance_stacks(self.trees, self.device)

    @cached_property
    def depths(self) -> list[Stack]:
        return depth_stacks(self.trees, self.device)

    def guess(self, x: Tensor) -> Guess:
        """Out-of-fold predictions from activations ``[words, width]``."""
        return Guess(self._held_out(x, "distance"), self._held_out(x, "depth"))

    def score(self, guess: Guess) -> TreeScores:
        return tree_scores(self.trees, guess.distances, guess.depths)

    def fit(self, x: Tensor, form: Form) -> Tensor:
        """The probe ``[rank, width]`` trained on all sentences but the fold that chooses."""
        choose = torch.from_numpy(self.fold == 0).to(self.device)
        return self._fit(form)(x, self._stacks(form), ~choose, choose)

    def _held_out(self, x: Tensor, form: Form) -> Arrays:
        folds = int(self.fold.max()) + 1
        fold = torch.from_numpy(self.fold).to(self.device)
        found: Arrays = [np.empty(0)] * len(self.trees)
        for test in range(folds):
            choose = fold == (test + 1) % folds
            probe = self._fit(form)(x, self._stacks(form), (fold != test) & ~choose, choose)
            fill(found, x @ probe.T, [s.only(fold == test) for s in self._stacks(form)], form)
        return found

    def _stacks(self, form: Form) -> list[Stack]:
        return self.distances if form == "distance" else self.depths

    def _fit(self, form: Form) -> TreeFit:
        return TreeFit(form, self.rank, self.components, self.epochs, self.seed)


def untrained(task: TreeTask, x: Tensor) -> Guess:
    """The distances and lengths of the activations as they are: the identity metric."""
    distances: Arrays = [np.empty(0)] * len(task.trees)
    depths: Arrays = list(distances)
    fill(distances, x - x.mean(0), task.distances, "distance")
    fill(depths, x, task.depths, "depth")
    return Guess(distances, depths)


def fill(found: Arrays, y: Tensor, stacks: Sequence[Stack], form: Form) -> None:
    """Write what words ``[words, rank]`` say of each sentence of the stacks."""
    for stack in stacks:
        if not len(stack.sentences):
            continue
        values = projected(y[stack.words], form).cpu().numpy()
        for sentence, value in zip(stack.sentences.tolist(), values, strict=True):
            found[sentence] = value
