"""The online code of Voita and Titov (2020): labels sent block by block, each with what went before.

Sender and receiver have the activations. The labels of the first block are sent with uniform
probabilities; those of every later block with the probabilities of a probe that both train on the
blocks before it. Labels that a probe learns from few rows take few bits in all, so the codelength
says how easily a label can be read, where accuracy only says how well once enough rows were seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.linear import CLASS_L2, TOL
from layerscope.probes.solving.design import Design, Fit
from layerscope.probes.solving.engine import Engine

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Ends of the blocks, as shares of the rows: the paper's."""
SMOOTHING = 1e-3
"""Share of the uniform distribution in every probability, for classes not seen so far."""


@dataclass(frozen=True)
class Order:
    """In which order rows are sent; groups stay whole, so no group is on both sides of a cut."""

    index: NDArray[np.int64]
    """``[rows]`` which row is sent when."""
    bounds: tuple[int, ...]
    """First row of each block in this order, and the end."""


@dataclass(frozen=True)
class Code:
    """What the labels of one site cost, row by row, in the order of the rows that were given."""

    bits: NDArray[np.float64]
    """``[tasks, rows]``"""
    hits: NDArray[np.bool_]
    """``[tasks, rows]`` whether the most probable class was the right one; False in the first block."""
    penalties: tuple[float, ...]
    """The one that each block but the first was sent with."""
    unfinished: int = 0
    """Probes that stopped before they had converged."""


def orders(
    groups: NDArray[np.int64],
    *,
    fractions: Sequence[float] = FRACTIONS,
    count: int = 1,
    seed: int = 0,
) -> list[Order]:
    """Random orders of whole groups, cut at the first end of a group at or after each fraction.

    Args:
        groups: ``[rows]`` group numbers from 0.
        fractions: Ends of the blocks, ascending, as shares of the rows; the last is 1.
        count: How many.
        seed: The same seed gives the same orders.

    Raises:
        ValueError: fractions that do not ascend to 1, or a single group.
    """
    if list(fractions) != sorted(set(fractions)) or fractions[0] <= 0 or fractions[-1] != 1:
        raise ValueError(f"fractions must ascend from above 0 to 1, got {tuple(fractions)}")
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        raise ValueError(
            "a code needs two groups or more: one to learn from, one to send; read the data with "
            "another group=, or take more of it"
        )
    generator = np.random.default_rng(seed)
    return [_order(groups, sizes, fractions, generator) for _ in range(count)]


def _order(
    groups: NDArray[np.int64],
    sizes: NDArray[np.int64],
    fractions: Sequence[float],
    generator: np.random.Generator,
) -> Order:
    drawn = generator.permutation(len(sizes))
    place = np.argsort(drawn)
    ends = np.cumsum(sizes[drawn])
    wanted = np.maximum(1, np.round(np.array(fractions) * len(groups)))
    cuts = np.unique(ends[np.searchsorted(ends, wanted)])
    return Order(np.argsort(place[groups], kind="stable"), (0, *map(int, cuts)))


def online_code(
    x: Tensor,
    targets: Tensor,
    classes: int,
    order: Order,
    engine: Engine,
    *,
    l2: float | None = None,
    smoothing: float = SMOOTHING,
) -> Code:
    """Send the labels of rows whose activations are known, by logistic probes.

    Args:
        x: ``[rows, width]`` finite.
        targets: ``[tasks, rows]`` class numbers; the first chooses the penalties.
        classes: How many there are; both sides know.
        order: Of the rows.
        engine: Who solves, and where.
        l2: Penalty of the probes, against the summed loss; None sends each block with the one of
            `CLASS_L2` that would have sent the block before it in the fewest bits, which the
            receiver knows too.
        smoothing: Share of the uniform distribution in every probability.

    Returns:
        Bits of every label. Probabilities are at least ``smoothing / classes``.
    """
    design = Design.of(x[torch.from_numpy(order.index)], order.bounds, device=engine.device)
    sent = targets.to(design.x.device)[:, torch.from_numpy(order.index).to(design.x.device)]
    bits = torch.full(sent.shape, log2(classes), dtype=torch.float64, device=sent.device)
    hits = torch.zeros_like(sent, dtype=torch.bool)
    penalties, unfinished = [], 0
    for block, chosen, weights, missed in _trained(engine, design, sent, classes, l2, smoothing):
        part = design.fold(block)
        for task, weight in enumerate(weights):
            scores = design.scores(block, weight)
            bits[task, part] = _bits(scores, sent[task, part], smoothing)
            hits[task, part] = scores.argmax(1) == sent[task, part]
        penalties.append(chosen)
        unfinished += missed
    back = torch.from_numpy(np.argsort(order.index)).to(sent.device)
    return Code(
        bits[:, back].cpu().numpy(), hits[:, back].cpu().numpy(), tuple(penalties), unfinished
    )


def _trained(
    engine: Engine,
    design: Design,
    targets: Tensor,
    classes: int,
    l2: float | None,
    smoothing: float,
) -> Iterator[tuple[int, float, list[Tensor], int]]:
    """For each block but the first: its penalty, and the weights of each task trained before it."""
    tried = CLASS_L2 if l2 is None else (l2,)
    best, start = 0, None
    for block in design.folds[1:]:
        unseen = tuple(design.folds[block:])
        fits = [Fit(0, unseen, strength) for strength in tried]
        fits += [Fit(task, unseen, tried[best]) for task in range(1, len(targets))]
        found = engine.logistic(design, targets, fits, classes=classes, tol=TOL, start=start)
        start = found.weights.to(design.x.device)
        yield block, tried[best], [start[best], *start[len(tried) :]], found.unfinished
        truth = targets[0, design.fold(block)]
        costs = [
            _bits(design.scores(block, w), truth, smoothing).sum() for w in start[: len(tried)]
        ]
        best = int(torch.stack(costs).argmin())


def _bits(scores: Tensor, truth: Tensor, smoothing: float) -> Tensor:
    """``[rows]`` bits of the true classes."""
    likely = scores.double().softmax(1).gather(1, truth[:, None])[:, 0]
    return -((1 - smoothing) * likely + smoothing / scores.shape[1]).log2()


def frequency_code(
    targets: NDArray[np.int64], classes: int, order: Order, *, smoothing: float = SMOOTHING
) -> NDArray[np.float64]:
    """``[rows]`` bits of the same code without activations: by how often each class was seen."""
    sent = targets[order.index]
    bits = np.full(len(sent), log2(classes))
    for start, stop in pairwise(order.bounds[1:]):
        share = np.bincount(sent[:start], minlength=classes) / start
        bits[start:stop] = -np.log2((1 - smoothing) * share + smoothing / classes)[sent[start:stop]]
    back: NDArray[np.float64] = bits[np.argsort(order.index)]
    return back
