"""What erasing does to the model's own predictions: loss, accuracy and divergence by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.erasing.asked import Question, Questions
from layerscope.analyses.material.texts import LOGITS, tokens_at_once, vocabulary
from layerscope.hooks import edits
from layerscope.hooks.edits import edit
from layerscope.hooks.load import device_of
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.replay import lanes
from layerscope.probes.erasers.eraser import Eraser
from layerscope.probes.solving.solver import full_precision

Floats = NDArray[np.float64]
Erasing = Mapping[str, Eraser]
"""Site -> what is erased there."""
MEASURES = ("loss", "accuracy", "divergence")


@dataclass(frozen=True, eq=False)
class Effects:
    """Sums over predictions, by group, of the model as it is and under each erasure."""

    scopes: tuple[str, ...]
    measures: tuple[str, ...]
    base: Floats
    """``[scopes, measures, groups]``"""
    erased: Floats
    """``[scopes, measures, erasures, groups]``"""
    counts: Floats
    """``[scopes, groups]``"""


class Job(Protocol):
    """Measures erasures on held-out data."""

    def effects(self, erasures: Sequence[Erasing]) -> Effects:
        """What each erasure does."""


@dataclass(frozen=True, eq=False)
class TokenJob:
    """Predictions of tokens: next-token loss, or the loss at gaps."""

    model: nn.Module
    questions: Questions

    def effects(self, erasures: Sequence[Erasing]) -> Effects:
        """Loss in nats, share of right first guesses, and KL divergence from the model as it is."""
        scopes = self.questions.scopes
        groups = self.questions.texts.n_groups
        base = np.zeros((len(scopes), len(MEASURES), groups))
        erased = np.zeros((len(scopes), len(MEASURES), len(erasures), groups))
        counts = np.zeros((len(scopes), groups))
        for question in self.questions.batches(tokens_at_once(self.model, each=64)):
            plain, changed = self._batch(question, erasures)
            for s, name in enumerate(scopes):
                mask = question.scopes[name].double()
                np.add.at(counts[s], question.groups, mask.sum(1).numpy())
                for m, value in enumerate(plain):
                    np.add.at(base[s, m], question.groups, (value * mask).sum(1).numpy())
                for e, values in enumerate(changed):
                    for m, value in enumerate(values):
                        np.add.at(erased[s, m, e], question.groups, (value * mask).sum(1).numpy())
        return Effects(scopes, MEASURES, base, erased, counts)

    def _batch(
        self, question: Question, erasures: Sequence[Erasing]
    ) -> tuple[Tensor, list[Tensor]]:
        """``[measures, b, p]`` as it is, and of each erasure; on the CPU, float64."""
        ids = question.ids.to(device_of(self.model))
        step = max(1, LOGITS // (12 * ids.numel() * vocabulary(self.model)))
        plain, found = None, []
        for start in range(0, len(erasures), step):
            part = erasures[start : start + step]
            changes: list[dict[int | str, Any]] = [
                {site: edits.change(eraser, at=question.erased) for site, eraser in one.items()}
                for one in part
            ]
            with torch.no_grad(), full_precision():
                out = lanes(self.model, {"input_ids": ids}, changes, budget=2**62)
            reach = slice(out.positions.start, out.positions.stop)
            before = out.baseline.float().log_softmax(-1)
            wanted = question.wanted.to(before.device)[:, reach]
            if plain is None:
                plain = _spread(_measured(before, before, wanted), reach, ids.shape)
            after = out.logits.float().log_softmax(-1).unflatten(0, (len(part), len(ids)))
            for one in after:
                found.append(_spread(_measured(one, before, wanted), reach, ids.shape))
        assert plain is not None
        return plain, found


def _measured(after: Tensor, before: Tensor, wanted: Tensor) -> Tensor:
    """``[measures, b, p]`` of log probabilities ``[b, p, vocab]``."""
    loss = -after.gather(-1, wanted[..., None])[..., 0]
    right = (after.argmax(-1) == wanted).float()
    divergence = (before.exp() * (before - after)).sum(-1)
    return torch.stack([loss, right, divergence]).double().cpu()


def _spread(part: Tensor, reach: slice, shape: Sequence[int]) -> Tensor:
    """With zeros at positions before the first erased one, which no scope counts."""
    whole = torch.zeros(len(part), *shape, dtype=torch.float64)
    whole[..., reach] = part
    return whole


@dataclass(frozen=True, eq=False)
class LossJob:
    """A loss of the user's own, one number for each text or sample."""

    model: nn.Module
    batches: Callable[[], Iterator[tuple[NDArray[np.int64], Any, Callable[[], Any]]]]
    """Opens `(groups [b], batch, run)`: ``run()`` calls the model on the batch."""
    loss: Callable[[Any, Any], Tensor]
    groups: int

    def effects(self, erasures: Sequence[Erasing]) -> Effects:
        """The change of the loss.

        Raises:
            ValueError: a loss that is not one number for each sample.
        """
        base, counts = np.zeros((1, 1, self.groups)), np.zeros((1, self.groups))
        erased = np.zeros((1, 1, len(erasures), self.groups))
        for groups, batch, run in self.batches():
            np.add.at(counts[0], groups, 1.0)
            np.add.at(base[0, 0], groups, self._loss(batch, run, len(groups)))
            for e, one in enumerate(erasures):
                changes = {site: edits.change(eraser) for site, eraser in one.items()}
                with edit(self.model, changes):
                    np.add.at(erased[0, 0, e], groups, self._loss(batch, run, len(groups)))
        return Effects(("all",), ("loss",), base, erased, counts)

    def _loss(self, batch: Any, run: Callable[[], Any], size: int) -> Floats:
        with undisturbed(self.model):
            value = self.loss(run(), batch)
        if not isinstance(value, Tensor) or value.shape != (size,):
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"loss(output, batch) must return one number for each of the {size} samples of the "
                f"batch, a tensor [{size}]; got {got}"
            )
        found: Floats = value.detach().double().cpu().numpy()
        return found
