"""From the sums of one site to lines of the table, each with interval and null."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks, jackknife
from layerscope.analyses.measures import dimension, spectrum
from layerscope.analyses.measures.anisotropy import isotropic_deviation, mean_cosine
from layerscope.analyses.shapes.cloud import Cloud

Line = dict[str, Any]
SPECTRAL: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "participation_ratio_raw": ("dimensions", spectrum.participation_ratio),
    "effective_rank": ("dimensions", spectrum.effective_rank),
    "stable_rank": ("dimensions", spectrum.stable_rank),
    "top_share": ("share of variance", spectrum.top_share),
    "power_law": ("exponent", spectrum.power_law),
}
LEAST_ROWS = 100
"""Fewer different rows than these have no TwoNN dimension."""
RANKS = 120
"""Points of a spectrum, at most: all of the first ranks, then evenly on a logarithmic axis."""


@dataclass(frozen=True)
class Nulls:
    """How often null data are drawn."""

    draws: int
    seed: int


def independent(found: Cloud, nulls: Nulls) -> Tensor:
    """Eigenvalues of independent features of the same variances and rows, ``[draws, width]``."""
    return spectrum.gaussian_eigenvalues(
        found.variances, found.rows, draws=nulls.draws, seed=nulls.seed
    )


def spectral_lines(found: Cloud, null: Tensor, nulls: Nulls) -> list[Line]:
    """Everything that the eigenvalues of the covariance say; `null` is of `independent`."""
    n = found.rows
    left_out = found.without_block
    isotropic = _isotropic(n, found.width, nulls.seed)
    lines = [_corrected(found, left_out, null)]
    for name, (unit, measure) in SPECTRAL.items():
        low, high = jackknife(measure(found.eigenvalues).cpu(), measure(left_out).cpu())
        drawn = measure(null)
        lines.append(
            {
                "measure": name,
                "value": float(measure(found.eigenvalues)),
                "ci_low": float(low),
                "ci_high": float(high),
                "null_mean": float(drawn.mean()),
                "null_sd": float(drawn.std()) if len(drawn) > 1 else float("nan"),
                "isotropic": float(measure(isotropic).mean()),
                "unit": unit,
                "estimator": "eigenvalues of the covariance",
            }
        )
    return lines


def _corrected(found: Cloud, left_out: Tensor, null: Tensor) -> Line:
    """The participation ratio without the bias of few rows; its interval is taken on 1/PR."""
    n, values = found.rows, found.eigenvalues
    value = float(
        spectrum.corrected_participation_ratio(
            values.sum(), values.square().sum(), torch.tensor(found.fourth), n
        )
    )
    inverse = 1 / value + (1 / spectrum.participation_ratio(left_out)).cpu().numpy()
    low, high = jackknife(1 / value, inverse)
    drawn = 1 / (1 / spectrum.participation_ratio(null) - 1 / (n - 1))
    return {
        "measure": "participation_ratio",
        "value": value,
        "ci_low": 1 / float(high) if high > 0 else float("nan"),
        "ci_high": 1 / float(low) if low > 0 else float("inf"),
        "null_mean": float(spectrum.participation_ratio(found.variances)),
        "null_sd": float(drawn.std()) if len(drawn) > 1 else float("nan"),
        "isotropic": float(found.width),
        "unit": "dimensions",
        "estimator": "U-statistics",
    }


def cosine_lines(found: Cloud) -> list[Line]:
    """Mean cosine of two rows: raw, without outlier dimensions, without mean and top directions."""
    lines = []
    for name, sums in found.cosines.items():
        total, n = sums.total.sum(0), sums.n.sum()
        if n < 2:
            continue
        value = float(mean_cosine(total, n))
        low, high = jackknife(value, mean_cosine(total - sums.total, n - sums.n).cpu())
        lines.append(
            {
                "measure": "cosine" if name == "raw" else f"cosine_{name}",
                "value": value,
                "ci_low": float(low),
                "ci_high": float(high),
                "null_mean": 0.0,
                "null_sd": isotropic_deviation(int(n), found.width),
                "isotropic": 0.0,
                "unit": "cosine",
                "estimator": "sums of unit rows",
            }
        )
    return lines


def spectrum_lines(found: Cloud, null: Tensor) -> list[Line]:
    """Share of the variance by rank."""
    shares = (found.eigenvalues / found.eigenvalues.sum()).cpu()
    others = (null / null.sum(1, keepdim=True)).mean(0)
    ranks = np.unique(np.geomspace(1, len(shares), RANKS).round().astype(int))
    return [
        {
            "part": "spectrum",
            "measure": "spectrum",
            "rank": int(rank),
            "value": float(shares[rank - 1]),
            "null_mean": float(others[rank - 1]),
            "unit": "share of variance",
            "estimator": "eigenvalues of the covariance",
        }
        for rank in ranks
    ]


def dimension_lines(found: Cloud) -> list[Line]:
    """The dimensions that add most to the mean cosine, and the one with the largest activation."""
    share = found.mean_square / found.mean_square.sum()
    peak = int(found.largest.argmax())
    largest: Line = {
        "part": "outlier",
        "measure": "largest",
        "dimension": peak,
        "value": float(found.largest[peak]),
        "second_moment": float(share[peak]),
        "largest": float(found.largest[peak]),
        "unit": "absolute value",
        "estimator": "maximum",
    }
    return [largest] + [
        {
            "part": "outlier",
            "measure": "outlier",
            "rank": rank,
            "dimension": int(dimension),
            "value": float(found.contribution[dimension]),
            "second_moment": float(share[dimension]),
            "largest": float(found.largest[dimension]),
            "unit": "cosine",
            "estimator": "sums of unit rows",
        }
        for rank, dimension in enumerate(found.outliers.tolist(), 1)
    ]


def twonn_lines(x: Tensor, blocks: Blocks, nulls: Nulls, *, scan: bool) -> tuple[list[Line], int]:
    """TwoNN by both estimators and on ever fewer rows; and how many rows were duplicates.

    Args:
        x: ``[rows, width]`` a sample of the rows.
        blocks: The block of each of them.
    """
    kept = dimension.distinct(x)
    duplicates = len(x) - len(kept)
    if len(kept) < LEAST_ROWS:
        return [], duplicates
    found = dimension.two_nn(x)
    n = len(found.logs)
    number = torch.from_numpy(blocks.number).to(x.device)[found.kept]
    left = [found.logs[number != b] for b in number.unique().tolist()]
    null = _shuffled_dimension(x, nulls.seed)
    ball = _ball(n, x.shape[1], nulls.seed)
    lines = []
    for name, which, estimator in (
        ("twonn", 0, "maximum likelihood"),
        ("twonn_fit", 1, "linear fit"),
    ):
        value = (found.mle, found.fit)[which]
        of = (dimension.mle_of, dimension.fit_of)[which]
        low, high = jackknife(value, [of(logs) for logs in left])
        lines.append(
            {
                "measure": name,
                "value": value,
                "ci_low": float(low),
                "ci_high": float(high),
                "null_mean": null[which],
                "null_sd": null[which] / n**0.5,
                "isotropic": ball[which],
                "n": n,
                "unit": "dimensions",
                "estimator": estimator,
            }
        )
    return lines + (_scan(x, nulls.seed) if scan else []), duplicates


def _scan(x: Tensor, seed: int) -> list[Line]:
    lines = []
    for rows, values in dimension.decimation(x, seed=seed):
        mean = float(values.mean())
        half = 1.96 * mean / (rows * len(values)) ** 0.5
        lines.append(
            {
                "part": "decimation",
                "measure": "twonn",
                "value": mean,
                "ci_low": mean - half,
                "ci_high": mean + half,
                "n": rows,
                "unit": "dimensions",
                "estimator": f"mean over {len(values)} parts of {rows} rows",
            }
        )
    return lines


def _shuffled_dimension(x: Tensor, seed: int) -> tuple[float, float]:
    """Of the same values with the rows of every feature in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(x.shape, generator=generator).argsort(0).to(x.device)
    found = dimension.two_nn(x.gather(0, order))
    return found.mle, found.fit


@lru_cache(maxsize=32)
def _ball(n: int, width: int, seed: int) -> tuple[float, float]:
    """TwoNN of independent normal features: below the width where rows are few for it."""
    generator = torch.Generator().manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = dimension.two_nn(torch.randn(n, width, generator=generator).to(device))
    return found.mle, found.fit


@lru_cache(maxsize=32)
def _isotropic(n: int, width: int, seed: int) -> Tensor:
    return spectrum.gaussian_eigenvalues(torch.ones(width), n, draws=1, seed=seed)
