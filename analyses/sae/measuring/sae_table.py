"""The table of `evaluate`: a line for each measure, and the counts and points that are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.analyses.sae.measuring.accumulator import Accumulator
from layerscope.analyses.sae.measuring.definitions import DEFINITIONS
from layerscope.analyses.sae.measuring.passes import Points

if TYPE_CHECKING:
    import pandas as pd

NAN = float("nan")
BINS = 4
"""Of the density histogram, for each power of ten."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table."""

    key: str
    """Short name, for `SAEFinding.value`."""
    measure: str
    """Name with its definition."""
    group: str
    value: float
    ci_low: float = NAN
    ci_high: float = NAN
    random: float = NAN
    """The same of a random dictionary of as many latents and the same L0."""
    pca: float = NAN
    """The same of as many principal components as the L0."""
    baseline: float = NAN
    """Of probing: single dimensions of the residual stream."""
    ceiling: float = NAN
    """Of probing: all dimensions of the residual stream."""
    null_mean: float = NAN
    null_sd: float = NAN
    n: int = 0
    """What the value is a mean over: rows, predictions, latents, words."""
    n_groups: int = 0
    """Texts (or words) that intervals resample; 0 where there is no interval."""
    unit: str = ""
    estimator: str = ""
    x: float = NAN
    """Of lines that are drawn: lower end of a bin, norm of a row."""
    part: str = ""
    """Of lines that belong to one letter or one label."""


def measured_line(
    key: str,
    values: Mapping[str, float],
    *,
    n: int,
    interval: tuple[float, float] = (NAN, NAN),
    n_groups: int = 0,
    estimator: str = "mean over rows",
) -> Line:
    """A line of one of the `DEFINITIONS`, from the values of ``sae``, ``random`` and ``pca``."""
    known = DEFINITIONS[key]
    return Line(
        key=key,
        measure=known.name,
        group=known.group,
        value=values["sae"],
        ci_low=interval[0],
        ci_high=interval[1],
        random=values.get("random", NAN),
        pca=values.get("pca", NAN),
        n=n,
        n_groups=n_groups if np.isfinite(interval[0]) else 0,
        unit=known.unit,
        estimator=estimator,
    )


def row_lines(found: Mapping[str, Accumulator], groups: int, *, seed: int) -> list[Line]:
    """Reconstruction, sparsity and norms."""
    values = {name: one.values() for name, one in found.items()}
    intervals = found["sae"].intervals(seed=seed)
    n = found["sae"].rows
    lines = [
        measured_line(
            key,
            {name: float(one[key][0]) for name, one in values.items()},
            n=n,
            interval=intervals[key],
            n_groups=groups,
        )
        for key in values["sae"]
    ]
    for key in ("h", "k"):
        most = {name: one.most[key] for name, one in found.items()}
        lines.append(measured_line(f"elbo_{key}_max", most, n=n, estimator="largest over rows"))
    shares = {name: _shares(one.density.cpu().numpy()) for name, one in found.items()}
    lines += [
        measured_line(key, {name: one[key] for name, one in shares.items()}, n=n, estimator="count")
        for key in shares["sae"]
    ]
    return lines


def _shares(density: NDArray[np.float64]) -> dict[str, float]:
    alive = density[density > 0]
    return {
        "dead_share": float((density == 0).mean()),
        "density_median": float(np.median(alive)) if len(alive) else NAN,
        "dense_share": float((density > 0.1).mean()),
    }


def density_lines(found: Mapping[str, Accumulator]) -> list[Line]:
    """Histogram of densities, `BINS` to each power of ten; dead latents are not in it."""
    n = found["sae"].rows
    lowest = floor(log10(1 / n) * BINS)
    edges = np.arange(lowest, 1) / BINS
    counts = {}
    for name, one in found.items():
        density = one.density.cpu().numpy()
        place = np.floor(np.log10(density[density > 0]) * BINS + 1e-9) - lowest
        counts[name] = np.bincount(place.astype(np.int64), minlength=len(edges))
    return [
        Line(
            key="density",
            measure="latents by density, the share of rows with f != 0",
            group="density",
            value=float(counts["sae"][i]),
            random=float(counts["random"][i]) if "random" in counts else NAN,
            n=n,
            unit="latents",
            estimator="count",
            x=float(10**edge),
        )
        for i, edge in enumerate(edges)
    ]


def point_lines(points: Points) -> list[Line]:
    """Norms of single rows: `x` of z, `value` of the code."""
    return [
        Line(
            key="norms",
            measure="norm of the codes by norm of z = y - b_dec, single rows",
            group="points",
            value=sparse,
            x=dense,
            n=1,
            unit="activation",
        )
        for dense, sparse in zip(points.dense.tolist(), points.sparse.tolist(), strict=True)
    ]


def table_of(lines: Sequence[Line]) -> pd.DataFrame:
    """Lines in the order of the groups."""
    import pandas as pd

    order = list(DEFINITIONS)
    rank: dict[str, Any] = {key: i for i, key in enumerate(order)}
    ordered = sorted(lines, key=lambda line: rank.get(line.key, len(order)))
    return pd.DataFrame([asdict(line) for line in ordered])
