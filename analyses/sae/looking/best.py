"""The best few of a stream for each latent, kept as tensors while it goes by."""

from __future__ import annotations

import torch
from torch import Tensor


class Best:
    """The `keep` entries of greatest score for each latent, at most one of each unit.

    Of equal scores the lowest rows win. What is kept does not depend on how the stream of ascending
    rows is cut into blocks.

    Args:
        latents: How many there are.
        keep: Entries for each of them.
        device: Where the entries live.
    """

    def __init__(self, latents: int, keep: int, device: torch.device) -> None:
        shape = (latents, keep)
        self.score = torch.full(shape, -torch.inf, dtype=torch.float64, device=device)
        """``[latents, keep]`` greatest first; minus infinity where there are fewer."""
        self.row = torch.full(shape, -1, dtype=torch.int64, device=device)
        """``[latents, keep]`` of the store; -1 where there are fewer."""
        self.value = torch.zeros(shape, device=device)
        """``[latents, keep]`` the codes."""
        self._unit = torch.full(shape, -1, dtype=torch.int64, device=device)

    def add(
        self, latent: Tensor, score: Tensor, value: Tensor, row: Tensor, unit: Tensor | None = None
    ) -> None:
        """Take in entries, one-dimensional tensors of one length, by ascending row.

        Args:
            unit: Of which a latent keeps one entry, a number from 0; None: each row is its own.
        """
        keep = self.row.shape[1]
        # Most of a long stream ends here, so that little is sorted that cannot win.
        better = (score > self.score[latent, -1]).nonzero()[:, 0]
        unit = row if unit is None else unit
        new = [part[better] for part in (latent, score.double(), value.float(), row, unit)]
        touched = new[0].unique()
        there, place = (self.row[touched] >= 0).nonzero(as_tuple=True)
        old = touched[there]
        kept = (self.score[old, place], self.value[old, place], self.row[old, place])
        # What is kept goes first: its rows are the lower ones, and the sorts are stable.
        both = zip((old, *kept, self._unit[old, place]), new, strict=True)
        entries = [torch.cat(parts) for parts in both]
        latent, score = entries[0], entries[1]
        order = (-score).argsort(stable=True)
        if unit is not row:
            order = order[_firsts(latent[order], entries[-1][order])]
        order = order[latent[order].argsort(stable=True)]
        rank = _rank(latent[order])
        order, rank = order[rank < keep], rank[rank < keep]
        latent, score, value, row, unit = (part[order] for part in entries)
        self.score[touched], self.row[touched] = -torch.inf, -1
        self.score[latent, rank], self.value[latent, rank] = score, value
        self.row[latent, rank], self._unit[latent, rank] = row, unit


def _firsts(latent: Tensor, unit: Tensor) -> Tensor:
    """Places, ascending, of the first entry of each latent and unit."""
    if not len(latent):
        return latent
    both = latent * (unit.max() + 1) + unit
    order = both.argsort(stable=True)
    both = both[order]
    new = torch.ones_like(both, dtype=torch.bool)
    new[1:] = both[1:] != both[:-1]
    return order[new].sort().values


def _rank(latent: Tensor) -> Tensor:
    """Place of each entry among those of its latent, for latents in ascending order."""
    if not len(latent):
        return latent
    counts = latent.bincount()
    starts = counts.cumsum(0) - counts
    return torch.arange(len(latent), device=latent.device) - starts[latent]


_MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""The odd constants of splitmix64 (Steele et al. 2014), as signed numbers."""


def chance(row: Tensor, latent: Tensor, seed: int) -> Tensor:
    """A uniform number from [0, 1) for each pair of row and latent, float64; the same wherever it is asked.

    Keeping the greatest of them keeps a uniform sample without replacement, whatever the blocks.
    """
    x = _scrambled(row * _MIX[0] + seed)
    x = _scrambled(x + latent * _MIX[0])
    return _shifted(x, 11).double() * 2.0**-53


def _scrambled(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _MIX[1]
    x = (x ^ _shifted(x, 27)) * _MIX[2]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """To the right, filled with zeros: torch fills with the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
