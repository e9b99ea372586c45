"""How large what a block adds is, and which way it points, from differences of the residual stream.

Csordás, Manning and Potts 2025. What a sublayer adds is the stream after it less the stream before
it, never what its module returns: norms that follow a sublayer are then part of it in every
architecture. Differences are taken in float64 from the states as they were computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.skipping.cosines import Pair, State, cosine

SMALLEST = 1e-6
"""Norms below this count as this, so that a ratio stays finite."""
MEASURES = {
    "relative_norm": "share of the stream's norm",
    "cosine": "cosine of what is added and the stream",
    "cosine_states": "cosine of the stream before and after",
}
Floats = NDArray[np.float64]


def contribution(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Each of `MEASURES` for rows of the stream `[rows, d]` before and after a block or sublayer.

    ``cosine`` above 0 strengthens what is there, near 0 writes in new directions, below 0 erases;
    0 where nothing is added.
    """
    x, y = before.double(), after.double()
    added = y - x
    size = x.norm(dim=-1).clamp_min(SMALLEST)
    return {
        "relative_norm": added.norm(dim=-1) / size,
        "cosine": cosine(added, x),
        "cosine_states": cosine(x, y),
    }


class Contributions:
    """Running sums by text of every measure of every pair.

    Args:
        pairs: States before and after each block, attention and MLP.
        texts: How many texts there are.
    """

    def __init__(self, pairs: Sequence[Pair], texts: int) -> None:
        self.pairs = tuple(pairs)
        self.sums: Floats = np.zeros((len(MEASURES), len(pairs), texts, 2))
        """`[measures, pairs, texts, 2]`; the last axis is (later tokens, first token)."""
        self.counts: Floats = np.zeros((texts, 2))
        """`[texts, 2]`"""
        self.largest: Floats = np.full((len(MEASURES), len(pairs)), -np.inf)
        """`[measures, pairs]` over all tokens but first ones."""

    def update(self, index: Sequence[int], states: Mapping[str, Tensor]) -> None:
        """Add texts `index` with states `[b, p, d]` by site."""
        for number, pair in enumerate(self.pairs):
            found = contribution(state_of(states, pair.before), state_of(states, pair.after))
            for row, values in enumerate(found.values()):
                x = values.cpu().numpy()
                self.sums[row, number, index, 0] = x[:, 1:].sum(1)
                self.sums[row, number, index, 1] = x[:, 0]
                if x.shape[1] > 1:
                    self.largest[row, number] = max(self.largest[row, number], x[:, 1:].max())
        length = next(iter(states.values())).shape[1]
        self.counts[index] = length - 1, 1


def state_of(states: Mapping[str, Tensor], state: State) -> Tensor:
    """The sum of the sites of a state, in float64; ``-site`` is subtracted."""
    parts = [
        -states[name[1:]].double() if name.startswith("-") else states[name].double()
        for name in state
    ]
    return torch.stack(parts).sum(0)
