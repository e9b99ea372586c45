"""Running counts over attention rows, head by head; no row is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.measures.concentration import cover, effective_entries

BINS = 64
OCTAVES = 8
"""The histogram covers shares of keys from 2^-8 to 1; its first bin also has all that is below."""
EDGES = 2.0 ** (np.arange(BINS + 1) * (OCTAVES / BINS) - OCTAVES)
"""1/2, 1/8 and 1/32, where operating modes meet, are edges."""
STATISTICS = ("sink", "entropy", "self", "previous")
BLOCK = 1 << 22
"""Attention weights that are sorted at a time."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Which windows a pattern belongs to."""

    group: Ints
    """``[b]``"""
    sinks: Tensor
    """``[b, keys]`` boolean: the first position, and special tokens."""


class HeadCounts:
    """Everything `attention_modes` says about one layer, in numbers that rows are added to.

    Args:
        groups: How many groups there are.
        share: Of the attention, whose number of keys is counted.
        least: Queries with fewer visible keys are left out.
    """

    def __init__(self, groups: int, *, share: float, least: int) -> None:
        self.groups, self.share, self.least = groups, share, least
        self.heads = 0
        self.k = np.zeros((2, 0, 0), dtype=np.int64)
        """``[all keys or without sinks, heads, k]`` rows that need k keys."""
        self.visible = np.zeros((2, 0), dtype=np.int64)
        """``[all keys or without sinks, visible]`` queries with so many visible keys."""
        self.histogram = np.zeros((2, groups, 0, BINS), dtype=np.int64)
        self.sums = np.zeros((groups, 0, len(STATISTICS)))
        self.counts = np.zeros(groups)
        """Queries."""

    def update(self, pattern: Tensor, rows: Rows) -> None:
        """Add attention probabilities ``[b, heads, queries, keys]``."""
        self._grow(pattern.shape[1], pattern.shape[3])
        seen = visible_keys(pattern)
        chosen = (seen.sum(-1) >= self.least).nonzero()[:, 0]
        if not len(chosen):
            return
        number = seen.sum(-1)[chosen]
        for group, sinks, p in zip(rows.group, rows.sinks.to(pattern.device), pattern, strict=True):
            hidden = (seen[chosen] & sinks).sum(-1)
            self._count_queries(int(group), number, hidden)
            step = max(1, BLOCK // (len(chosen) * p.shape[-1]))
            for start in range(0, len(p), step):
                heads = slice(start, start + step)
                self._add(int(group), heads, p[heads][:, chosen], sinks, chosen, (number, hidden))

    def _count_queries(self, group: int, number: Tensor, hidden: Tensor) -> None:
        self.counts[group] += len(number)
        size = self.visible.shape[1]
        for line, some in enumerate((number, number - hidden)):
            self.visible[line] += np.bincount(some.cpu().numpy(), minlength=size)

    def _add(
        self,
        group: int,
        heads: slice,
        p: Tensor,
        sinks: Tensor,
        queries: Tensor,
        visible: tuple[Tensor, Tensor],
    ) -> None:
        """Rows ``[heads, queries, keys]`` of one window."""
        number, hidden = visible
        both = [cover(x, [self.share])[..., 0] for x in (p, p.masked_fill(sinks, 0))]
        for line, (k, keys) in enumerate(zip(both, (number, number - hidden), strict=True)):
            self._count(line, group, heads, k, keys)
        wide = p.to(torch.promote_types(p.dtype, torch.float32))
        diagonal = queries.expand(len(p), -1)[..., None].clamp_max(p.shape[-1] - 1)
        before = (diagonal - 1).clamp_min(0)
        values = [
            (wide * sinks).sum(-1),
            effective_entries(wide).log(),
            wide.gather(-1, diagonal)[..., 0],
            wide.gather(-1, before)[..., 0] * (queries > 0),  # the first has none before it
        ]
        self.sums[group, heads] += torch.stack(values, -1).double().sum(1).cpu().numpy()

    def _count(self, line: int, group: int, heads: slice, k: Tensor, keys: Tensor) -> None:
        rows = torch.arange(len(k), device=k.device)[:, None]
        size = self.k.shape[2]
        flat = torch.bincount((rows * size + k).flatten(), minlength=len(k) * size)
        self.k[line, heads] += flat.reshape(len(k), size).cpu().numpy()
        ratio = k.double() / keys.clamp_min(1)
        bins = ((ratio.clamp_min(1e-9).log2() + OCTAVES) * (BINS / OCTAVES)).ceil().long() - 1
        bins = rows * BINS + bins.clamp(0, BINS - 1)
        flat = torch.bincount(bins.flatten(), minlength=len(k) * BINS)
        self.histogram[line, group, heads] += flat.reshape(len(k), BINS).cpu().numpy()

    def _grow(self, heads: int, keys: int) -> None:
        if not self.heads:
            self.heads = heads
            self.k = np.zeros((2, heads, 0), dtype=np.int64)
            self.histogram = np.zeros((2, self.groups, heads, BINS), dtype=np.int64)
            self.sums = np.zeros((self.groups, heads, len(STATISTICS)))
        more = max(0, keys + 1 - self.k.shape[2])
        self.k = np.pad(self.k, ((0, 0), (0, 0), (0, more)))
        self.visible = np.pad(self.visible, ((0, 0), (0, more)))


def visible_keys(pattern: Tensor) -> Tensor:
    """Which keys each query may attend to, ``[queries, keys]``, from the pattern itself.

    A query sees from as far back to as far ahead as any query of any head does: full, causal and
    windowed attention come out right even where single probabilities have shrunk to zero.
    """
    used = (pattern > 0).flatten(0, 1).any(0)
    queries, keys = used.shape
    gap = (
        torch.arange(keys, device=used.device)
        - torch.arange(queries, device=used.device)[:, None]
        - (keys - queries)
    )
    if not bool(used.any()):
        return used
    back, ahead = gap[used].min(), gap[used].max()
    # A row without any probability is a pad.
    return (gap >= back) & (gap <= ahead) & used.any(-1, keepdim=True)


def median_of(counts: Ints) -> NDArray[np.float64]:
    """The median of whole numbers ``0, 1, ...`` that occur ``counts[..., number]`` times."""
    before = counts.cumsum(-1)
    total = before[..., -1:]
    ends = [(before <= (total - odd) // 2).sum(-1) for odd in (1, 0)]
    middle: NDArray[np.float64] = (ends[0] + np.minimum(ends[1], counts.shape[-1] - 1)) / 2
    return np.where(total[..., 0] > 0, middle, np.nan)


def median_in_bins(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median share of keys from histograms ``[..., BINS]``, interpolated within its bin."""
    before = counts.cumsum(-1)
    half = before[..., -1:] / 2
    at = (before < half).sum(-1, keepdims=True).clip(0, BINS - 1)
    inside = np.take_along_axis(counts, at, -1)
    part = (half - np.take_along_axis(before, at, -1) + inside) / np.maximum(inside, 1e-300)
    place: NDArray[np.float64] = (at + part)[..., 0] * (OCTAVES / BINS) - OCTAVES
    return np.where(half[..., 0] > 0, 2.0**place, np.nan)
