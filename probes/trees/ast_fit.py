"""The AST probe (Hernandez Lopez et al. 2022) of many sites at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.corpus.tree_tuples import TreeTuple
from layerscope.probes.solving.solver import full_precision
from layerscope.probes.trees.ast_batches import TextBatch, batches
from layerscope.probes.trees.ast_start import Start, start
from layerscope.probes.trees.parses import Parses

RATE = 2e-3


@dataclass(frozen=True)
class AstProbe:
    """Trained probes of several sites; each has its own along the first axis."""

    projection: Tensor
    """``[sites, width, rank]``, orthonormal columns."""
    labels: Tensor
    """``[sites, labels, rank]``"""
    unary: Tensor
    """``[sites, unary labels, rank]``"""
    scale: Tensor
    """``[sites]``: height of one unit of squared length."""
    mean: Tensor
    """``[sites, width]`` of the training words."""

    def words(self, x: Tensor) -> Tensor:
        """``[sites, ..., rank]`` of activations ``[sites, ..., width]``."""
        mean = self.mean.view(len(x), *[1] * (x.ndim - 2), -1)
        return torch.einsum("l...d,ldm->l...m", x - mean, self.projection)

    def predict(self, x: Tensor, parses: Parses, texts: Sequence[int]) -> list[list[TreeTuple]]:
        """For each site the trees of these texts, of activations ``[sites, words, width]``."""
        found: list[list[TreeTuple]] = [[] for _ in x]
        for text in texts:
            first, end = parses.words.starts[text], parses.words.starts[text + 1]
            coded = self.coded(x[:, first:end])
            for site, (heights, labels, unary) in enumerate(coded):
                found[site].append(
                    TreeTuple(
                        tuple(heights),
                        tuple(parses.labels[i] for i in labels),
                        tuple(parses.unary[i] for i in unary),
                    )
                )
        return found

    def coded(self, x: Tensor) -> list[tuple[list[Any], list[int], list[int]]]:
        """For each site the heights, label and unary numbers of one text ``[sites, words, width]``."""
        y = self.words(x)
        steps = y.diff(dim=1)
        heights = self.scale[:, None] * steps.square().sum(-1)
        labels = (steps @ self.labels.mT).argmax(-1)
        unary = (y @ self.unary.mT).argmax(-1)
        parts = (part.cpu().tolist() for part in (heights, labels, unary))
        return list(zip(*parts, strict=True))


@dataclass(frozen=True)
class AstFit:
    """How probes are fitted."""

    rank: int
    epochs: int
    seed: int = 0

    def __call__(
        self, x: Tensor, parses: Parses, train: NDArray[np.bool_], dev: NDArray[np.bool_]
    ) -> AstProbe:
        """Probes of activations ``[sites, words, width]``.

        Args:
            train: ``[texts]`` mask of those to fit.
            dev: ``[texts]`` mask of those that choose the epoch.
        """
        device = str(x.device)
        fit = batches(parses, np.flatnonzero(train), device)
        choose = batches(parses, np.flatnonzero(dev), device)
        with full_precision():
            return self._descend(x, _begin(x, fit, parses, self.rank), fit, choose)

    def _descend(
        self, x: Tensor, probe: AstProbe, fit: list[TextBatch], choose: list[TextBatch]
    ) -> AstProbe:
        """Adam, back to orthonormal columns after every step; each site keeps its best epoch."""
        best, least = probe, _loss(x, probe, choose)
        parts = {item.name: getattr(probe, item.name).clone() for item in fields(probe)}
        parts["scale"] = parts["scale"].log()
        for name in ("projection", "labels", "unary", "scale"):
            parts[name].requires_grad_()
        optimizer = torch.optim.Adam(
            [
                {"params": [parts["projection"]], "lr": RATE},
                {"params": [parts["labels"], parts["unary"]], "lr": 10 * RATE},
                {"params": [parts["scale"]], "lr": 10 * RATE},
            ]
        )
        steps = max(1, self.epochs * len(fit))
        plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            for number in torch.randperm(len(fit), generator=generator).tolist():
                optimizer.zero_grad()
                here = _made(parts)
                losses(x, here, fit[number]).mean(1).sum().backward()
                optimizer.step()
                plan.step()
                with torch.no_grad():
                    parts["projection"].copy_(_retracted(parts["projection"]))
            now = _made({name: part.detach().clone() for name, part in parts.items()})
            lost = _loss(x, now, choose)
            best = _where(lost < least, now, best)
            least = torch.minimum(lost, least)
        return best


def losses(x: Tensor, probe: AstProbe, batch: TextBatch) -> Tensor:
    """``[sites, texts]``: ranking loss of heights plus the cross-entropies of both labels."""
    y = probe.words(x[:, batch.words])
    steps = y.diff(dim=2)
    heights = probe.scale[:, None, None] * steps.square().sum(-1)
    higher = (batch.heights[:, :, None] > batch.heights[:, None]) & (batch.heights[:, None] >= 0)
    missed = (1 - (heights[..., :, None] - heights[..., None, :])).clamp_min(0) * higher
    ranking = missed.sum((-1, -2)) / higher.sum((-1, -2)).clamp_min(1)
    return (
        ranking
        + _entropy(steps @ probe.labels[:, None].mT, batch.labels)
        + _entropy(y @ probe.unary[:, None].mT, batch.unary)
    )


def _entropy(scores: Tensor, codes: Tensor) -> Tensor:
    """``[sites, texts]`` mean over what is there of scores ``[sites, texts, n, classes]``."""
    wanted = codes.expand(scores.shape[:-1])
    each = torch.nn.functional.cross_entropy(
        scores.flatten(0, 2), wanted.flatten(), reduction="none"
    ).view(wanted.shape)
    return each.sum(-1) / (codes >= 0).sum(-1).clamp_min(1)


def _loss(x: Tensor, probe: AstProbe, parts: Sequence[TextBatch]) -> Tensor:
    """``[sites]`` mean over texts."""
    with torch.no_grad():
        each = torch.cat([losses(x, probe, batch) for batch in parts], dim=1)
    return each.mean(1)


def _begin(x: Tensor, fit: list[TextBatch], parses: Parses, rank: int) -> AstProbe:
    there = [batch.unary >= 0 for batch in fit]
    words = torch.cat([batch.words[mask] for batch, mask in zip(fit, there, strict=True)])
    unary = torch.cat([batch.unary[mask] for batch, mask in zip(fit, there, strict=True)])
    pairs = [batch.heights >= 0 for batch in fit]
    left, right, heights, labels = (
        torch.cat([part[mask] for part, mask in zip(column, pairs, strict=True)])
        for column in (
            [batch.words[:, :-1] for batch in fit],
            [batch.words[:, 1:] for batch in fit],
            [batch.heights for batch in fit],
            [batch.labels for batch in fit],
        )
    )
    sizes = (len(parses.labels), len(parses.unary))
    mean = x[:, words].mean(1)
    begun = [
        start(site[words] - own, site[right] - site[left], heights, labels, unary, rank, sizes)
        for site, own in zip(x, mean, strict=True)
    ]
    parts = {
        item.name: torch.stack([getattr(one, item.name) for one in begun]) for item in fields(Start)
    }
    return AstProbe(**parts, mean=mean)


def _made(parts: dict[str, Tensor]) -> AstProbe:
    return AstProbe(**parts | {"scale": parts["scale"].exp()})


def _retracted(projection: Tensor) -> Tensor:
    """The nearest orthonormal columns in the order of a QR decomposition."""
    q, r = torch.linalg.qr(projection)
    turned: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return turned


def _where(better: Tensor, a: AstProbe, b: AstProbe) -> AstProbe:
    def chosen(name: str) -> Tensor:
        one, other = getattr(a, name), getattr(b, name)
        return torch.where(better.view(-1, *[1] * (one.ndim - 1)), one, other)

    return AstProbe(*(chosen(item.name) for item in fields(AstProbe)))
