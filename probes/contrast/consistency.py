"""A direction along which the two sides of a contrast are opposite, found without labels.

Burns et al. (2023): a statement is read with two contrary endings. What depends on the ending
itself is removed by centring each side over its own rows; what is left and opposite on the two sides
may be what the model takes for true. `closed` is their CRC-TPC, the top principal component of the
differences; `search` is their contrast-consistent search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

RESTARTS = 10
EPOCHS = 1000
RATE = 1e-3
DECAY = 0.01


@dataclass(frozen=True)
class Found:
    """Directions, one per training set; which of their ends means true is not known."""

    direction: Tensor
    """``[fits, width]`` of unit length; zero where the sides do not differ at all."""
    centre: Tensor
    """``[fits, width]`` mean difference of the two sides over the training pairs."""
    share: Tensor
    """``[fits]`` of the variance of the centred differences that lies along the direction."""
    loss: Tensor
    """``[fits]`` of contrast-consistent search; NaN for the closed form."""

    def scores(self, difference: Tensor) -> Tensor:
        """``[fits, pairs]`` of differences ``[pairs, width]``; the sign is the prediction."""
        return self.direction @ difference.T - (self.direction * self.centre).sum(1)[:, None]


def closed(difference: Tensor, trains: Tensor, *, centred: bool = True) -> Found:
    """The top principal component of the differences between the sides.

    Args:
        difference: ``[pairs, width]`` first side minus second.
        trains: ``[fits, pairs]`` True where a pair may be used.
        centred: Whether each side is centred first; without, the direction is mostly the format.
    """
    directions, centres, shares = [], [], []
    for train in trains:
        rows = difference[train].double()
        centre = rows.mean(0) if centred else torch.zeros_like(rows[0])
        direction, share = _top(rows - centre)
        directions.append(direction)
        centres.append(centre)
        shares.append(share)
    missing = torch.full((len(trains),), torch.nan)
    found = torch.stack(directions).float(), torch.stack(centres).float()
    return Found(*found, torch.tensor(shares), missing)


def _top(rows: Tensor) -> tuple[Tensor, float]:
    """First right singular vector, its largest entry positive, and its share of the squares."""
    from scipy.sparse.linalg import svds

    whole = rows.square().sum().item()
    if not whole:
        return torch.zeros_like(rows[0]), float("nan")
    if min(rows.shape) <= 2:
        values, vectors = torch.linalg.svd(rows, full_matrices=False)[1:]
        direction, value = vectors[0], values[0].item()
    else:
        matrix = rows.cpu().numpy()
        # Not ones: centred rows have no part along them.
        start = np.random.default_rng(0).standard_normal(min(matrix.shape))
        _, values, vectors = svds(matrix, k=1, v0=start)
        direction = torch.from_numpy(vectors[0].copy()).to(rows.device)
        value = float(values[0])
    largest = direction[direction.abs().argmax()]
    return direction * largest.sign(), value**2 / whole


def search(
    first: Tensor,
    second: Tensor,
    trains: Tensor,
    *,
    restarts: int = RESTARTS,
    epochs: int = EPOCHS,
    rate: float = RATE,
    decay: float = DECAY,
    start: Tensor | None = None,
    seed: int = 0,
) -> Found:
    """Contrast-consistent search: all training sets and restarts in one optimisation.

    With ``p = sigmoid(w @ (x - mean of its side) + b)`` the loss of a pair is ``(p1 - (1 - p2))**2 +
    min(p1, p2)**2``. AdamW on all pairs at once; of the restarts the lowest loss wins.

    Args:
        first: ``[pairs, width]`` states of the first side.
        second: ``[pairs, width]`` states of the second, of the same pairs.
        trains: ``[fits, pairs]`` True where a pair may be used.
        restarts: Random beginnings, uniform as `torch.nn.Linear` begins.
        start: ``[fits, width]`` a further beginning for each training set.
        seed: Of the beginnings; no global generator moves.
    """
    with full_precision(), torch.enable_grad():
        share = trains.to(first.dtype) / trains.sum(1, keepdim=True)
        means = share @ first, share @ second
        begun = _beginnings(len(trains), first, restarts, start, seed)
        weights = torch.nn.Parameter(begun)
        optimiser = torch.optim.AdamW([weights], lr=rate, weight_decay=decay)
        for _ in range(epochs):
            optimiser.zero_grad()
            losses = _losses(weights, first, second, means, share)
            losses.sum().backward()
            optimiser.step()
    with torch.no_grad(), full_precision():
        losses = _losses(weights, first, second, means, share)
        loss, best = losses.min(1)
        rows = torch.arange(len(trains), device=first.device)
        direction = torch.nn.functional.normalize(weights[rows, best, :-1], dim=1)
        centre = means[0] - means[1]
        along = direction @ (first - second).T - (direction * centre).sum(1)[:, None]
        differences = (first - second).square().sum(1)
        whole = (share * differences).sum(1) - centre.square().sum(1)
        return Found(direction, centre, ((share * along.square()).sum(1) / whole).cpu(), loss.cpu())


def _beginnings(fits: int, first: Tensor, restarts: int, start: Tensor | None, seed: int) -> Tensor:
    """``[fits, restarts, width + 1]``; the last column is the bias."""
    width = first.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(restarts, width + 1, generator=generator) * 2 - 1
    begun: Tensor = (drawn / width**0.5).to(first)[None].repeat(fits, 1, 1)
    if start is None:
        return begun
    given = torch.nn.functional.pad(start.to(first), (0, 1))[:, None]
    return torch.cat([begun, given], 1)


def _losses(
    weights: Tensor, first: Tensor, second: Tensor, means: tuple[Tensor, Tensor], share: Tensor
) -> Tensor:
    """``[fits, restarts]`` mean loss over the pairs of each training set."""
    flat, bias = weights[..., :-1].flatten(0, 1), weights[..., -1]
    p, q = (
        torch.sigmoid((flat @ side.T).view(*bias.shape, -1) + _offset(weights, bias, mean))
        for side, mean in zip((first, second), means, strict=True)
    )
    each = (p + q - 1).square() + torch.minimum(p, q).square()
    total: Tensor = (each @ share[..., None])[..., 0]
    return total


def _offset(weights: Tensor, bias: Tensor, mean: Tensor) -> Tensor:
    """``[fits, restarts, 1]`` what centring takes off the scores, and the bias."""
    taken: Tensor = (bias - (weights[..., :-1] @ mean[..., None])[..., 0])[..., None]
    return taken
