"""A weighted mean of layers under a linear head, trained together (Peters et al. 2018; Tenney 2019).

The mix is ``sum_l softmax(w)_l h_l``; every layer is standardised first, or a layer with large states
would speak loudest at equal weights. ELMo's gamma, which scales the whole mix, is part of the head:
beside it no second scale can be told from the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from layerscope.probes.solving.solver import full_precision

_STEPS = 300
_CONSTANT = 1e-6  # float32 cannot tell a smaller spread, relative to the mean, from rounding


@dataclass(frozen=True)
class Mix:
    """Weights of the layers and the head on their mix."""

    weights: Tensor
    """``[layers]`` that add up to 1."""
    head: Tensor
    """``[outputs, width + 1]``; the last column is the bias."""
    mean: Tensor
    """``[layers, width]`` of the training rows."""
    scale: Tensor
    """``[layers, width]`` deviation of the training rows; 1 where a feature is constant there."""

    def scores(self, stack: Tensor) -> Tensor:
        """``[rows, outputs]`` of rows ``[layers, rows, width]`` as they were stored."""
        mixed = _standard(stack, self.mean, self.scale).flatten(1).T @ self.weights
        mixed = mixed.view(stack.shape[1:])
        return mixed @ self.head[:, :-1].T + self.head[:, -1]


def fit_mix(stack: Tensor, target: Tensor, *, classes: int, l2: float, steps: int = _STEPS) -> Mix:
    """Minimise the summed loss plus ``l2 / 2`` times the squared norm of the head.

    L-BFGS from equal weights and an empty head: no chance is involved. The problem is not convex in
    weights and head together. Numbers are fitted in units of their deviation, so that what they are
    measured in changes nothing but the head.

    Args:
        stack: ``[layers, rows, width]`` training rows, as they were stored.
        target: ``[rows]`` class numbers, or numbers where `classes` is 0.
        classes: How many; 0 fits numbers by least squares.
        l2: The penalty.
        steps: At most so many.
    """
    mean, scale = moments(stack)
    rows = _standard(stack, mean, scale)
    layers, count, width = rows.shape
    flat = rows.view(layers, count * width)
    outputs = classes or 1
    centre, unit = (0.0, 1.0) if classes else _centre_and_unit(target)
    truth = target if classes else ((target.double() - centre) / unit).float()
    logits = torch.zeros(layers, device=stack.device, requires_grad=True)
    head = torch.zeros(outputs, width + 1, device=stack.device, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits, head],
        max_iter=steps,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        mixed = (logits.softmax(0) @ flat).view(count, width)
        scores = mixed @ head[:, :-1].T + head[:, -1]
        if classes:
            missed = cross_entropy(scores, truth, reduction="sum")
        else:
            missed = (scores[:, 0] - truth).square().sum() / 2
        total: Tensor = (missed + l2 / 2 * head[:, :-1].square().sum()) / count
        total.backward()
        return total

    with full_precision(), torch.enable_grad():
        optimiser.step(loss)
    found = head.detach() * unit
    found[:, -1] += centre
    return Mix(logits.detach().softmax(0), found, mean, scale)


def _centre_and_unit(target: Tensor) -> tuple[float, float]:
    """Mean and deviation of numbers; 1 where they are all the same."""
    numbers = target.double()
    return numbers.mean().item(), numbers.std(correction=0).item() or 1.0


def moments(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[layers, width]``, summed in double precision, a layer at a time.

    The deviation is 1 where a feature is constant.
    """
    means, scales = [], []
    for layer in stack:
        mean = layer.mean(0, dtype=torch.float64)
        spread = (layer - mean.float()).square().mean(0, dtype=torch.float64).sqrt()
        means.append(mean.float())
        scales.append(torch.where(spread > _CONSTANT * mean.abs(), spread, 1.0).float())
    return torch.stack(means), torch.stack(scales)


def plain_mean(stack: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """``[rows, width]`` mean of layers ``[layers, rows, width]``, each standardised first."""
    total = torch.zeros_like(stack[0])
    for layer, centre, spread in zip(stack, mean, scale, strict=True):
        total += (layer - centre).div_(spread)
    return total / len(stack)


def _standard(stack: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (stack - mean[:, None]).div_(scale[:, None])
