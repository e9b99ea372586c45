"""Which class of a label a latent stands for, chosen on one half of the groups and scored on the other.

A latent is taken as a yes-or-no classifier: it says yes where it fires. That it says so of a class can
be counted while rows go by, for the labels as they are and for shuffled ones alike.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.sample import Sample, labelled_sample
from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.corpus.splits import group_folds
from layerscope.store import Store

DRAWS = 20
"""Shuffled labellings."""
LEAST = 4
"""Rows of a class, so that both halves can hold some."""
SURE = 3
"""Standard deviations above shuffled labels from which on a class counts as told."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """What each latent tells, arrays ``[latents]``; a latent that never fired in the first half tells nothing."""

    name: NDArray[np.object_]
    """Class of greatest F1 in the first half; None where there is none."""
    score: Floats
    """F1 of that class in the second half."""
    precision: Floats
    """Share of the firings that are of the class, in the second half."""
    recall: Floats
    """Share of the class that it fires on, in the second half."""
    null: Floats
    """Mean F1 under shuffled labels, class chosen and scored in the same way."""
    null_sd: Floats
    base: Floats
    """Share of the second half's rows that are of the class."""


class ClassCounts:
    """Firings by latent and class, in each half, for the labels and for shuffled ones.

    Args:
        store: Has the label.
        label: Its name; labels of groups stay together when shuffled.
        latents: How many there are.
        max_rows: Labelled rows that are used at most, drawn at random.
        seed: Of rows, halves and shuffles.
        device: Where the counts live.

    Raises:
        LookupError: no such label.
        ValueError: no rows with it, one class, fewer than two groups.
    """

    def __init__(
        self,
        store: Store,
        label: str,
        latents: int,
        *,
        max_rows: int,
        seed: int,
        device: torch.device,
    ) -> None:
        chosen = labelled_sample(store, label, max_rows=max_rows, least=LEAST, seed=seed)
        assert chosen.codes is not None
        self.notes = chosen.notes
        self.rows = len(chosen)
        self._names = np.array([str(one) for one in chosen.classes], dtype=object)
        self._half = torch.from_numpy(_halves(chosen, seed)).to(device)
        drawn = shuffled_labels(chosen.codes, chosen.groups, draws=DRAWS, seed=seed)
        self._codes = torch.from_numpy(np.vstack([chosen.codes[None], drawn])).to(device)
        self._place = torch.full((len(store),), -1, dtype=torch.int64, device=device)
        self._place[torch.from_numpy(chosen.index)] = torch.arange(len(chosen), device=device)
        self._latents = latents
        shape = (DRAWS + 1, 2, latents, len(self._names))
        self._fired = torch.zeros(shape, dtype=torch.int32, device=device)

    def add(self, latent: Tensor, row: Tensor) -> None:
        """Take in firings: latents and rows of the store, one-dimensional and of one length."""
        place = self._place[row]
        labelled = place >= 0
        latent, place = latent[labelled], place[labelled]
        _, halves, latents, classes = self._fired.shape
        start = (self._half[place] * latents + latent) * classes
        for count, codes in zip(self._fired, self._codes, strict=True):
            seen = (start + codes[place]).bincount(minlength=halves * latents * classes)
            count += seen.reshape(count.shape).int()

    def afresh(self) -> ClassCounts:
        """The same rows, halves and shuffles for another dictionary of as many latents."""
        other = copy(self)
        other._fired = torch.zeros_like(self._fired)
        return other

    def classes(self) -> Classes:
        """The class of each latent, after the pass."""
        scores = np.stack([self._scored(draw)[1] for draw in range(DRAWS + 1)])
        best, score = self._scored(0)
        fired = self._fired[0].cpu().numpy().astype(np.float64)
        sizes = self._sizes(0)
        hits = fired[1, np.arange(self._latents), best]
        with np.errstate(invalid="ignore"):
            precision = hits / fired[1].sum(1)
        silent = fired[0].sum(1) == 0
        numbers = {
            "score": score,
            "precision": precision,
            "recall": hits / np.maximum(sizes[1, best], 1),
            "null": scores[1:].mean(0),
            "null_sd": scores[1:].std(0, ddof=1),
            "base": sizes[1, best] / sizes[1].sum(),
        }
        names = self._names[best]
        names[silent] = None
        return Classes(name=names, **{k: np.where(silent, np.nan, v) for k, v in numbers.items()})

    def _scored(self, draw: int) -> tuple[NDArray[np.int64], Floats]:
        """Class of greatest F1 in the first half, and its F1 in the second."""
        f1 = _f1(self._fired[draw].cpu().numpy().astype(np.float64), self._sizes(draw))
        best = f1[0].argmax(1)
        return best, f1[1, np.arange(self._latents), best]

    def _sizes(self, draw: int) -> Floats:
        """``[2, classes]`` rows of each class in each half."""
        classes = len(self._names)
        counted = (self._half * classes + self._codes[draw]).bincount(minlength=2 * classes)
        return np.asarray(counted.reshape(2, classes).cpu().numpy(), dtype=np.float64)


def _halves(chosen: Sample, seed: int) -> NDArray[np.int64]:
    if len(np.unique(chosen.groups)) < 2:
        raise ValueError(
            f"all rows with {chosen.label} are of one group, so the class of a latent cannot be chosen "
            "in one half and scored in another; read the data with groups"
        )
    return group_folds(None, chosen.groups, folds=2, seed=seed)


def _f1(fired: Floats, sizes: Floats) -> Any:
    """``[2, latents, classes]``: twice the hits, over all firings and all rows of the class."""
    asked = fired.sum(2, keepdims=True) + sizes[:, None]
    return 2 * fired / np.maximum(asked, 1)
