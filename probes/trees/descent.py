"""The distance and the depth probe of Hewitt and Manning (2019), fitted on some sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision
from layerscope.probes.trees.convex import loss, warm_start
from layerscope.probes.trees.coordinates import Coordinates
from layerscope.probes.trees.quadratic import Form, projected
from layerscope.probes.trees.stacks import Stack, only

RATE = 1e-3
BATCH = 40
"""Sentences at most: those of a batch have one length, so that many batches are smaller."""


@dataclass(frozen=True)
class TreeFit:
    """How one probe is fitted."""

    form: Form
    rank: int
    components: int
    epochs: int
    seed: int = 0

    def __call__(self, x: Tensor, stacks: Sequence[Stack], train: Tensor, dev: Tensor) -> Tensor:
        """The probe ``[rank, width]``.

        Args:
            x: ``[words, width]`` activations.
            stacks: All sentences.
            train: ``[sentences]`` mask of those to fit.
            dev: ``[sentences]`` mask of those that choose penalty and epoch.
        """
        fit, choose = only(stacks, train), only(stacks, dev)
        with full_precision():
            seen = torch.cat([stack.words.flatten() for stack in fit])
            inner = Coordinates.of(x[seen], self.components, centred=self.form == "distance")
            z = inner(x)
            few = min(self.components, z.shape[1])
            start = warm_start(z[:, :few].contiguous(), fit, choose, self.form, self.rank)
            b = torch.cat([start, start.new_zeros(len(start), z.shape[1] - few)], dim=1)
            return inner.outside(self._descend(z, b, fit, choose))

    def _descend(self, z: Tensor, b: Tensor, fit: list[Stack], choose: list[Stack]) -> Tensor:
        """Adam on the mean absolute error; the epoch of least loss on `choose` is kept.

        The rate falls tenfold after every epoch that gained nothing, as in the paper.
        """
        best, least = b, loss(z, b, choose, self.form)
        b = b.clone().requires_grad_()
        optimizer = torch.optim.Adam([b], lr=RATE)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            for batch in _shuffled(fit, generator):
                optimizer.zero_grad()
                y = z[batch.words] @ b.T
                (projected(y, self.form) - batch.truth).abs().mean().backward()
                optimizer.step()
            lost = loss(z, b.detach(), choose, self.form)
            if lost < least:
                best, least = b.detach().clone(), lost
            else:
                optimizer.param_groups[0]["lr"] /= 10
                if optimizer.param_groups[0]["lr"] < RATE / 500:
                    break
        return best


def _shuffled(stacks: Sequence[Stack], generator: torch.Generator) -> list[Stack]:
    """Batches of sentences of one length, in random order."""
    batches = []
    for stack in stacks:
        order = torch.randperm(len(stack.sentences), generator=generator)
        order = order.to(stack.words.device)
        mixed = Stack(stack.sentences[order], stack.words[order], stack.truth[order])
        batches += mixed.split(BATCH)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
