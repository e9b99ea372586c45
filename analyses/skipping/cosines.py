"""Cosines between states of the residual stream, summed by text while activations pass by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

State = tuple[str, ...]
"""Sites whose sum is a state of the stream; ``-site`` is subtracted."""
_GRAM_NUMBERS = 4_000_000
"""Numbers in double precision that are held at once for the cosines of all pairs of states."""


@dataclass(frozen=True)
class Pair:
    """Two states of the stream: before and after something that could be left out."""

    part: str
    """``block``, ``attention`` or ``mlp``."""
    layer: int
    before: State
    after: State


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of `x` with the same row of `y`, in double precision: ``[rows]``.

    Equal rows give exactly 1, also two rows of zeros; one row of zeros gives 0.
    """
    x, y = x.double(), y.double()
    product = (x * y).sum(-1)
    # One square root of the product, not a product of roots: exact where x equals y.
    size = ((x * x).sum(-1) * (y * y).sum(-1)).sqrt()
    both_zero = (x == 0).all(-1) & (y == 0).all(-1)
    return torch.where(both_zero, 1.0, product / size.masked_fill(size == 0, 1.0))


def gaps(length: int) -> list[tuple[int, int]]:
    """``(first block, blocks)`` of every run of two or more blocks among `length` of them."""
    return [(i, j - i) for i in range(length) for j in range(i + 2, length + 1)]


class Cosines:
    """Running sums of cosines, apart for each group and for first tokens.

    Args:
        pairs: What is compared one by one.
        stream: States before the first block and after each; compared over every gap of two or
            more blocks. Empty: no gaps.
    """

    def __init__(self, pairs: Sequence[Pair], stream: Sequence[State]) -> None:
        self.pairs, self.stream = tuple(pairs), tuple(stream)
        self.gaps = gaps(len(stream) - 1)
        self._groups: dict[object, int] = {}
        self._sums = np.zeros((2, 0, len(pairs) + len(self.gaps)))
        self._counts = np.zeros((2, 0))

    def update(
        self, states: Mapping[str, Tensor], groups: NDArray[Any], positions: NDArray[np.int64]
    ) -> None:
        """Add rows: ``[rows, width]`` of each site, their group, and their position in the text.

        Raises:
            ValueError: activations that are NaN or infinite, or states of different widths.
        """
        values = [cosine(_state(states, p.before), _state(states, p.after)) for p in self.pairs]
        columns = [torch.stack(values, 1)] if values else []
        if self.gaps:
            columns.append(self._all_gaps(states))
        cosines = torch.cat(columns, 1)
        if not bool(cosines.isfinite().all()):
            raise _not_finite(states)
        rows = cosines.cpu().numpy()
        codes = np.array([self._groups.setdefault(g, len(self._groups)) for g in groups])
        self._grow()
        first = (positions == 0).astype(int)
        np.add.at(self._sums, (first, codes), rows)
        np.add.at(self._counts, (first, codes), 1)

    @property
    def sums(self) -> NDArray[np.float64]:
        """``[2, groups, pairs and gaps]``: later tokens, then first tokens of texts."""
        return self._sums[:, self._order()]

    @property
    def counts(self) -> NDArray[np.float64]:
        """``[2, groups]`` rows: later tokens, then first tokens of texts."""
        return self._counts[:, self._order()]

    def _order(self) -> list[int]:
        """Groups by name, so that draws of groups do not depend on the order of the rows."""
        return [self._groups[group] for group in sorted(self._groups, key=str)]

    def _all_gaps(self, states: Mapping[str, Tensor]) -> Tensor:
        stream = [_state(states, state) for state in self.stream]
        step = max(1, _GRAM_NUMBERS // (len(stream) * stream[0].shape[-1]))
        i, n = torch.tensor(self.gaps).unbind(1)
        parts = []
        for start in range(0, len(stream[0]), step):
            part = torch.stack([x[start : start + step].double() for x in stream], 1)
            products = part @ part.mT
            sizes = products.diagonal(dim1=1, dim2=2).sqrt()
            between = products[:, i, i + n]
            parts.append(between / (sizes[:, i] * sizes[:, i + n]).clamp_min(1e-300))
        return torch.cat(parts).clamp(-1, 1)

    def _grow(self) -> None:
        missing = len(self._groups) - self._counts.shape[1]
        self._sums = np.pad(self._sums, ((0, 0), (0, missing), (0, 0)))
        self._counts = np.pad(self._counts, ((0, 0), (0, missing)))


def sites_of(states: Sequence[State]) -> tuple[str, ...]:
    """Every site that these states are made of, once."""
    return tuple(dict.fromkeys(site.removeprefix("-") for state in states for site in state))


def _state(states: Mapping[str, Tensor], state: State) -> Tensor:
    total: Tensor | None = None
    for name in state:
        site = name.removeprefix("-")
        x = states[site] if len(state) == 1 else states[site].double()
        x = -x if name.startswith("-") else x
        if total is not None and total.shape != x.shape:
            raise _widths(states)
        total = x if total is None else total + x
    if total is None:
        raise ValueError("a state needs at least one site")
    return total


def _widths(states: Mapping[str, Tensor]) -> ValueError:
    widths = ", ".join(f"{site} {x.shape[-1]}" for site, x in states.items())
    return ValueError(f"states of different widths have no cosine: {widths}")


def _not_finite(states: Mapping[str, Tensor]) -> ValueError:
    for site, x in states.items():
        bad = ~x.isfinite().all(-1)
        if bool(bad.any()):
            return ValueError(f"{site} has NaN or infinite activations in {int(bad.sum())} rows")
    return ValueError("cosines are NaN: activations too large for double precision")
