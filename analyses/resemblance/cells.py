"""Every wanted pair of sites by every measure, with null and interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks, jackknife
from layerscope.analyses.measures import cca, cka, procrustes, rsa, shared_neighbours
from layerscope.analyses.measures.pair_sums import PairSums, linear_sums
from layerscope.analyses.measures.predictivity import predict

Pair = tuple[int, int]
PAIRWISE_ROWS = 1000
"""Rows for measures that hold a matrix of rows by rows for every site."""
FOLDS = 5
SVCCA_SHARE = 0.99


@dataclass(frozen=True)
class Cell:
    """One pair of sites by one measure."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    null_mean: float = float("nan")
    null_sd: float = float("nan")
    n: int = 0


@dataclass(frozen=True, eq=False)
class Matrices:
    """The same rows at every site, sorted by the block they are left out with."""

    x: Sequence[Tensor]
    """``[rows, width]`` of each site"""
    groups: NDArray[np.int64]
    """``[rows]``"""
    blocks: Blocks
    k: int = 10
    bandwidth: float = 0.4
    draws: int = 5
    seed: int = 0
    batches: Callable[[], Iterable[Sequence[Tensor]]] | None = None
    """All rows of all sites, batch by batch, for the measure that streams."""

    @property
    def n(self) -> int:
        return len(self.groups)

    @cached_property
    def sums(self) -> PairSums:
        return linear_sums([cka.centred(x) for x in self.x], self.blocks.bounds)

    @cached_property
    def thinned(self) -> Matrices:
        """At most `PAIRWISE_ROWS` of the rows, in the same order."""
        if self.n <= PAIRWISE_ROWS:
            return self
        generator = np.random.default_rng(self.seed)
        index = np.sort(generator.choice(self.n, PAIRWISE_ROWS, replace=False))
        number = np.unique(self.blocks.number[index], return_inverse=True)[1]
        return Matrices(
            [x[torch.from_numpy(index).to(x.device)] for x in self.x],
            self.groups[index],
            Blocks(number.astype(np.int64)),
            self.k,
            self.bandwidth,
            self.draws,
            self.seed,
        )

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        renumbered = np.unique(self.groups, return_inverse=True)[1].astype(np.int64)
        return Blocks.of(renumbered, most=FOLDS, seed=self.seed).number

    def left_out(self, rows: Tensor) -> Tensor:
        """Sums of ``rows [rows, ...]`` over all rows but those of each block."""
        sums = torch.from_numpy(self.blocks.sums(rows.cpu().numpy()))
        return sums.sum(0) - sums

    @cached_property
    def sizes(self) -> Tensor:
        """``[blocks]`` rows without each block."""
        return self.left_out(torch.ones(self.n, dtype=torch.float64))


def _from_sums(
    values: Tensor, pairs: Sequence[Pair], mean: Tensor | float, sd: Tensor | float, n: int
) -> list[Cell]:
    """Cells from ``[1 + blocks, S, S]``, with nulls for all pairs or one for all."""
    low, high = jackknife(values[0].cpu(), values[1:].cpu())
    found = []
    for i, j in pairs:
        null_mean, null_sd = (float(x[i, j]) if isinstance(x, Tensor) else x for x in (mean, sd))
        ends = float(low[i, j]), float(np.minimum(1.0, high[i, j]))
        found.append(Cell(float(values[0, i, j]), *ends, null_mean, null_sd, n))
    return found


def _cka(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    values = cka.normalised(cka.hsic_unbiased(data.sums))
    return _from_sums(values, pairs, 0.0, cka.permuted_deviation(data.n), data.n)


def _cka_biased(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    values = cka.normalised(cka.hsic_biased(data.sums))
    return _from_sums(values, pairs, *cka.permuted_cka(data.sums), data.n)


def _cka_minibatch(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    streamed = cka.MinibatchCKA()
    n = 0
    for batch in data.batches() if data.batches is not None else [data.x]:
        n += len(batch[0])
        streamed.update(batch)
    whole, left = streamed.values()
    # Batches are independent: their permutation variances add up.
    deviation = cka.permuted_deviation(n // len(left)) / len(left) ** 0.5
    return _from_sums(torch.cat([whole[None], left]), pairs, 0.0, deviation, n)


def _cka_rbf(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    data = data.thinned
    sums = cka.rbf_sums(data.x, data.blocks.bounds, bandwidth=data.bandwidth)
    values = cka.normalised(cka.hsic_unbiased(sums))
    return _from_sums(values, pairs, 0.0, cka.permuted_deviation(data.n), data.n)


def _rsa(data: Matrices, pairs: Sequence[Pair], *, pearson: bool = True) -> list[Cell]:
    data = data.thinned
    sums = rsa.rank_sums([rsa.rdm(x, pearson=pearson) for x in data.x], data.blocks.bounds)
    deviation = rsa.permuted_deviation(sums)
    return _from_sums(rsa.correlation(sums), pairs, 0.0, deviation, data.n)


def _rsa_cosine(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    return _rsa(data, pairs, pearson=False)


def _knn(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    near = [shared_neighbours.nearest(x, data.k) for x in data.x]
    found = []
    for i, j in pairs:
        null = shared_neighbours.chance(near[i], near[j])
        kept = shared_neighbours.kept(near[i], near[j])
        low, high = jackknife(kept.mean().cpu(), data.left_out(kept) / data.sizes)
        found.append(
            Cell(float(kept.mean()), float(low), float(np.minimum(1.0, high)), *null, data.n)
        )
    return found


def _cca(
    data: Matrices, pairs: Sequence[Pair], *, share: float = 1.0, weighted: bool = False
) -> list[Cell]:
    bases = [cca.basis(x, share=share) for x in data.x]
    found = []
    for i, j in pairs:
        between = cca.correlations(bases[i], bases[j])
        value = between.weighted if weighted else between.mean
        even = torch.full_like(between.values, 1 / max(1, len(between.values)))
        influence = between.influence(between.weights if weighted else even)
        # Without a block, to first order: its rows' influence is gone.
        low, high = jackknife(value, value + (data.left_out(influence) / data.sizes))
        null = cca.chance(data.n, bases[i].directions, bases[j].directions, seed=data.seed)
        found.append(Cell(value, float(low), float(np.minimum(1.0, high)), *null, data.n))
    return found


def _svcca(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    return _cca(data, pairs, share=SVCCA_SHARE)


def _pwcca(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    return _cca(data, pairs, share=SVCCA_SHARE, weighted=True)


def _procrustes(data: Matrices, pairs: Sequence[Pair], *, angle: bool = False) -> list[Cell]:
    units = [procrustes.unit(x) for x in data.x]
    squares = [unit.square().sum(1) for unit in units]
    generator = torch.Generator().manual_seed(data.seed)
    found = []
    for i, j in pairs:
        if not (squares[i].sum() > 0 and squares[j].sum() > 0):
            found.append(Cell(float("nan"), n=data.n))
            continue
        best = procrustes.fit(units[i], units[j])
        norms = data.left_out(squares[i]) * data.left_out(squares[j])
        left = (data.left_out(best.rows) / norms.sqrt()).clamp(-1, 1)
        drawn = []
        for _ in range(data.draws):
            order = torch.randperm(data.n, generator=generator).to(units[j].device)
            drawn.append(procrustes.overlap(units[i], units[j][order]))
        null = torch.tensor(drawn, dtype=torch.float64).clamp(-1, 1)
        to = torch.arccos if angle else _squared_distance
        low, high = jackknife(best.angle if angle else best.distance, to(left))
        mean = float(to(null).mean()) if drawn else float("nan")
        sd = float(to(null).std()) if len(drawn) > 1 else float("nan")
        value = best.angle if angle else best.distance
        found.append(Cell(value, float(np.maximum(0.0, low)), float(high), mean, sd, data.n))
    return found


def _squared_distance(overlap: Tensor) -> Tensor:
    return 2 - 2 * overlap


def _shape_angle(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    return _procrustes(data, pairs, angle=True)


def _ridge(data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    """R2 of the second site from the first."""
    found: dict[Pair, Cell] = {}
    generator = torch.Generator().manual_seed(data.seed)
    orders = [torch.randperm(data.n, generator=generator) for _ in range(data.draws)]
    for i in dict.fromkeys(i for i, _ in pairs):
        wanted = [j for source, j in pairs if source == i]
        targets = [data.x[j] for j in wanted]
        said = predict(data.x[i], targets, data.folds)
        left = 1 - data.left_out(said.error) / data.left_out(said.scale)
        low, high = jackknife(said.values.cpu(), left)
        null = [
            predict(data.x[i][order.to(data.x[i].device)], targets, data.folds) for order in orders
        ]
        drawn = torch.stack([one.values for one in null]) if null else None
        for place, j in enumerate(wanted):
            mean = sd = float("nan")
            if drawn is not None:
                mean = float(drawn[:, place].mean())
                sd = float(drawn[:, place].std()) if len(drawn) > 1 else sd
            ends = float(low[place]), float(np.minimum(1.0, high[place]))
            found[i, j] = Cell(float(said.values[place]), *ends, mean, sd, data.n)
    return [found[pair] for pair in pairs]


@dataclass(frozen=True)
class Measure:
    """One way to compare two sites."""

    title: str
    unit: str
    estimator: str
    run: Callable[[Matrices, Sequence[Pair]], list[Cell]]
    symmetric: bool = True
    distance: bool = False
    """Whether 0 is alike; else 1 is."""


MEASURES: dict[str, Measure] = {
    "cka": Measure("CKA, unbiased", "CKA", "HSIC1", _cka),
    "cka_biased": Measure("CKA, biased", "CKA", "HSIC0", _cka_biased),
    "cka_minibatch": Measure("CKA, minibatch", "CKA", "HSIC1 in batches", _cka_minibatch),
    "cka_rbf": Measure("CKA of Gaussian kernels", "CKA", "HSIC1", _cka_rbf),
    "rsa": Measure("RSA", "Spearman correlation", "1 - Pearson", _rsa),
    "rsa_cosine": Measure("RSA of cosines", "Spearman correlation", "1 - cosine", _rsa_cosine),
    "knn": Measure("Shared neighbours", "share of neighbours", "cosine", _knn),
    "cca": Measure("Mean CCA", "mean correlation", "all directions", _cca),
    "svcca": Measure("SVCCA", "mean correlation", "components to 99 %", _svcca),
    "pwcca": Measure(
        "PWCCA", "weighted correlation", "components to 99 %", _pwcca, symmetric=False
    ),
    "procrustes": Measure(
        "Procrustes distance", "squared distance", "nuclear norm", _procrustes, distance=True
    ),
    "shape_angle": Measure(
        "Angular shape distance", "radians", "nuclear norm", _shape_angle, distance=True
    ),
    "ridge": Measure("Ridge predictivity", "R2", "5 folds of groups", _ridge, symmetric=False),
}


def cells(name: str, data: Matrices, pairs: Sequence[Pair]) -> list[Cell]:
    """One measure of all pairs; a symmetric one is computed once for both orders."""
    measure = MEASURES[name]
    if not measure.symmetric:
        return measure.run(data, pairs)
    once = list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))
    found = dict(zip(once, measure.run(data, once), strict=True))
    return [found[min(pair), max(pair)] for pair in pairs]
