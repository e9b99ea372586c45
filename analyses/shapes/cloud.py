"""The rows of one site in two passes over the store: what spectrum and anisotropy are made of.

The first pass adds up mean and covariance, the second the scores on their eigenvectors; of the
rows themselves one batch is in memory. Where there are fewer rows than features, the rows are
smaller than the covariance, and their Gram matrix takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks
from layerscope.analyses.measures.anisotropy import contributions
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.store.view import SiteView

BATCH_BYTES = 32 << 20
OUTLIERS = 3
"""How many outlier dimensions, and top directions, are taken away."""


@dataclass(eq=False)
class Directions:
    """Sums, over the rows of each block, of rows divided by their length."""

    total: Tensor
    """``[blocks, width]``"""
    n: Tensor
    """``[blocks]`` rows that have a length"""

    @classmethod
    def empty(cls, blocks: int, width: int, device: torch.device) -> Directions:
        return cls(
            *(
                torch.zeros(s, dtype=torch.float64, device=device)
                for s in ((blocks, width), (blocks,))
            )
        )

    def add(self, rows: Tensor, squares: Tensor, member: Tensor) -> None:
        """Rows ``[rows, width]``, their squared lengths, and ``[blocks, rows]`` whose they are."""
        there = squares > 0
        inverse = torch.where(there, squares, 1.0).rsqrt() * there
        self.total += (member * inverse) @ rows
        self.n += member @ there.double()


@dataclass(frozen=True, eq=False)
class Cloud:
    """What is known of the rows of one site."""

    n: Tensor
    """``[blocks]`` rows"""
    width: int
    mean_square: Tensor
    """``[width]`` mean of the squared feature"""
    variances: Tensor
    """``[width]`` divided by n - 1"""
    eigenvalues: Tensor
    """``[k]`` of the covariance, divided by n - 1, largest first; k is at most the width"""
    squares: Tensor
    """``[blocks, k]`` sums of squared scores"""
    scores: Tensor
    """``[blocks, k]`` sums of scores"""
    fourth: float
    """Sum of the fourth power of the distance from the mean"""
    largest: Tensor
    """``[width]`` largest absolute value"""
    outliers: Tensor
    """``[3]`` the dimensions that add most to the mean cosine"""
    contribution: Tensor
    """``[width]`` what each dimension adds to the mean cosine"""
    cosines: dict[str, Directions] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.n.sum())

    @property
    def without_block(self) -> Tensor:
        """``[blocks, k]`` eigenvalues without each block, to first order: in the same directions."""
        n, left = float(self.n.sum()), (self.n.sum() - self.n)[:, None]
        lost = self.squares + self.scores.square() / left
        return ((n - 1) * self.eigenvalues - lost).clamp_min(0) / (left - 1)


def cloud(site: str, view: SiteView, blocks: Blocks, device: torch.device) -> Cloud:
    """Two passes over the rows of a site.

    Raises:
        ValueError: activations that are NaN or infinite, with the site and the first row.
    """
    reader = _Reader(site, view, blocks, device)
    n, width = view.shape
    first = _First(reader)
    outliers = first.contribution.topk(min(OUTLIERS, width)).indices
    basis = _basis(first, reader)
    names = ["raw", *(f"without_{k}" for k in range(1, len(outliers) + 1))]
    turned = min(n, width)
    names += ["centred", *(f"centred_{k}" for k in range(1, min(OUTLIERS, turned - 1) + 1))]
    cosines = {
        name: Directions.empty(blocks.count, turned if name[0] == "c" else width, device)
        for name in names
    }
    squares, scores = (
        torch.zeros(blocks.count, turned, dtype=torch.float64, device=device) for _ in range(2)
    )
    fourth = 0.0
    for x, z, member in basis.scores(reader):
        squares += member @ z.square()
        scores += member @ z
        fourth += float(z.square().sum(1).square().sum())
        lengths = x.square()
        total = lengths.sum(1)
        rest = x.clone()
        cosines["raw"].add(x, total, member)
        for k, dimension in enumerate(outliers.tolist(), 1):
            rest[:, dimension] = 0
            cosines[f"without_{k}"].add(rest, rest.square().sum(1), member)
        for name in (name for name in names if name.startswith("centred")):
            k = int(name[8:] or 0)
            part = z.clone()
            part[:, :k] = 0
            cosines[name].add(part, part.square().sum(1), member)
    return Cloud(
        n=reader.counts,
        width=width,
        mean_square=first.second / n,
        variances=first.variances,
        eigenvalues=basis.values / (n - 1),
        squares=squares,
        scores=scores,
        fourth=fourth,
        largest=first.largest,
        outliers=outliers,
        contribution=first.contribution,
        cosines=cosines,
    )


class _Reader:
    """Batches of one site as float64, with the block of each row."""

    def __init__(self, site: str, view: SiteView, blocks: Blocks, device: torch.device) -> None:
        self.site, self.view, self.device = site, view, device
        self.number = torch.from_numpy(blocks.number).to(device)
        self.blocks = blocks.count
        self.counts = torch.bincount(self.number, minlength=blocks.count).double()
        self.size = max(1, BATCH_BYTES // (8 * view.shape[1]))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, index in self.view.batches(self.size):
            check_finite(self.site, rows, index.numpy())
            number = self.number[index.to(self.device)]
            member = torch.nn.functional.one_hot(number, self.blocks).double().T
            yield rows.to(self.device).double(), member


class _First:
    """Sums of the first pass, taken around a row near the mean so that nothing cancels."""

    def __init__(self, reader: _Reader) -> None:
        n, width = reader.view.shape
        gram = n > width
        zero = torch.zeros(width, dtype=torch.float64, device=reader.device)
        self.scatter = torch.outer(zero, zero) if gram else None
        total, square, unit, units = zero.clone(), zero.clone(), zero.clone(), zero.clone()
        self.second, self.largest = zero.clone(), zero.clone()
        shift, directed = None, 0
        for x, _ in reader:
            shift = x.mean(0) if shift is None else shift
            y = x - shift
            total += y.sum(0)
            square += y.square().sum(0)
            self.second += x.square().sum(0)
            self.largest = torch.maximum(self.largest, x.abs().amax(0))
            lengths = x.square().sum(1)
            there = lengths > 0
            directions = x[there] * lengths[there].rsqrt()[:, None]
            unit += directions.sum(0)
            units += directions.square().sum(0)
            directed += int(there.sum())
            if self.scatter is not None:
                self.scatter.addmm_(y.T, y)
        if self.scatter is not None:
            self.scatter -= torch.outer(total, total) / n
        self.variances = ((square - total.square() / n) / (n - 1)).clamp_min(0)
        self.mean = (zero if shift is None else shift) + total / n
        self.contribution = contributions(unit, units, max(2, directed))


@dataclass(frozen=True, eq=False)
class _Basis:
    """Principal directions, or the scores on them where rows are fewer than features."""

    values: Tensor  # eigenvalues of the scatter, largest first
    mean: Tensor
    vectors: Tensor | None  # [width, width]
    known: Tensor | None  # [rows, rows] scores

    def scores(self, reader: _Reader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        start = 0
        for x, member in reader:
            if self.known is not None:
                yield x, self.known[start : start + len(x)], member
            elif self.vectors is not None:
                yield x, (x - self.mean) @ self.vectors, member
            start += len(x)


def _basis(first: _First, reader: _Reader) -> _Basis:
    if first.scatter is not None:
        values, vectors = torch.linalg.eigh(first.scatter)
        return _Basis(values.flip(0).clamp_min(0), first.mean, vectors.flip(1), None)
    rows = torch.cat([x - first.mean for x, _ in reader])
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    return _Basis(values, first.mean, None, vectors * values.sqrt())
