"""How far apart labelled rows lie at one site, by seven measures: value, interval and null of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks, jackknife
from layerscope.analyses.material.sample import Sample
from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.analyses.measures.agreement import (
    adjusted_rand,
    contingency,
    normalised_information,
)
from layerscope.analyses.measures.collapse import collapse
from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import (
    class_sums,
    gdv_floor,
    gdv_from_distances,
    gdv_of_sums,
    half_z,
    without_blocks,
)
from layerscope.analyses.measures.purity import nearest, purity
from layerscope.analyses.measures.silhouette import silhouettes
from layerscope.probes.scoring.intervals import GroupBootstrap

BOOTSTRAP = 300
"""Resamples of groups behind an interval."""
LOWER = ("gdv", "nc1")
"""Measures that are lower where classes are further apart; the others are higher."""
ESTIMATORS = {
    "gdv": "all pairs, half-z-scored",
    "silhouette": "all pairs, half-z-scored",
    "purity": "share of {k} nearest rows",
    "ari": "k-means with as many clusters as classes",
    "nmi": "k-means with as many clusters as classes",
    "fisher": "tr S_b / tr S_w, classes equal",
    "nc1": "tr(S_w S_b^+) / classes",
}
UNITS = {"gdv": "GDV", "silhouette": "silhouette", "purity": "share", "ari": "ARI", "nmi": "NMI"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Labels and weights that every site is scored with, so that sites can be compared."""

    codes: Tensor
    """``[rows]``"""
    null: Tensor
    """``[draws, rows]`` shuffled class numbers."""
    weights: Tensor | None
    """``[resamples, rows]`` how often each row's group was drawn; None where there is one group."""
    blocks: Tensor | None
    """``[rows]`` block that the row's group is left out with; None where there is one group."""
    without: Tensor | None
    """``[blocks, rows]`` 0 where the row's group is in the block, else 1."""
    groups: NDArray[np.int64]


def draws_of(sample: Sample, *, draws: int, seed: int) -> Draws:
    """Shuffled labels and resampled groups for a labelled sample."""
    if sample.codes is None:
        raise TypeError("draws are of a labelled sample")
    groups = sample.groups
    null = shuffled_labels(sample.codes, groups, draws=draws, seed=seed)
    weights = blocks = without = None
    if groups.max() > 0:
        times = GroupBootstrap(groups, draws=BOOTSTRAP, seed=seed).times
        weights = torch.from_numpy(times[:, groups].astype(np.int32))
        blocks = torch.from_numpy(Blocks.of(groups, seed=seed).number)
        without = left_out(groups, seed)
    codes = torch.from_numpy(sample.codes)
    return Draws(codes, torch.from_numpy(null), weights, blocks, without, groups)


def left_out(groups: NDArray[np.int64], seed: int) -> Tensor:
    """``[blocks, rows]``: 0 where the group of a row is in the block, else 1."""
    blocks = Blocks.of(groups, seed=seed)
    return torch.from_numpy(blocks.number != np.arange(blocks.count)[:, None]).int()


def separation(
    x: Tensor, draws: Draws, *, neighbours: int, null: bool, seed: int
) -> dict[str, dict[str, float]]:
    """Every measure of rows ``[rows, width]`` under its label.

    All pairs are compared once; the labels of the null and the blocks left out use the same distances
    again. Features are scaled once, with all rows: the interval does not contain what
    scaling adds to the uncertainty.

    Returns:
        measure -> ``value``, ``ci_low``, ``ci_high``, with ``null`` also ``null_mean``,
        ``null_sd`` and ``p``; GDV has ``intra``, ``inter``, ``floor`` and ``relative`` besides.
    """
    z = half_z(x)
    d = distances(z)
    codes = draws.codes.to(d.device)[None]
    labels = draws.null.to(d.device) if null else None
    width = x.shape[1]
    found = _by_distances(d, codes, labels, draws, width)
    index = nearest(d, min(neighbours, len(d) - 1))
    found["purity"] = _by_rows(purity(index, codes)[0], draws) | _against(
        "purity", purity(index, codes), None if labels is None else purity(index, labels)
    )
    found |= _by_parts(_parts(z, draws, seed).to(d.device), codes, labels, draws)
    found |= _by_scatter(z, codes, labels, draws)
    return found


def _by_distances(
    d: Tensor, codes: Tensor, labels: Tensor | None, draws: Draws, width: int
) -> dict[str, dict[str, float]]:
    """GDV and silhouette, whose nulls come from the same sums of distances."""
    whole = gdv_from_distances(d, codes[0], width)
    rows = silhouettes(next(class_sums(d, codes)), codes)
    shuffled: list[tuple[Tensor, Tensor]] = []
    for part, sums in _shuffled_sums(d, labels):
        shuffled.append((gdv_of_sums(sums, part, width).value, silhouettes(sums, part).mean(1)))
    by_gdv, by_rows = (
        (torch.cat(one) for one in zip(*shuffled, strict=True)) if shuffled else (None, None)
    )
    floor = gdv_floor(codes[0].bincount().tolist())
    value = float(whole.value)
    gdv = {"intra": float(whole.intra), "inter": float(whole.inter), "floor": floor}
    by_block = _without(d, codes[0], draws.blocks, width)
    apart, near = (None, None) if by_block is None else by_block
    return {
        "gdv": gdv
        | {"relative": value / floor}
        | _against("gdv", whole.value[None], by_gdv)
        | _jackknife(whole.value[None], apart),
        "silhouette": _against("silhouette", rows, by_rows)
        | _jackknife(rows.mean(1), near, least=-1.0, most=1.0),
    }


def _without(
    d: Tensor, codes: Tensor, blocks: Tensor | None, width: int
) -> tuple[Tensor, Tensor] | None:
    """GDV and mean silhouette ``[blocks]`` without each block."""
    if blocks is None:
        return None
    found = []
    for left in without_blocks(d, codes, blocks):
        if left is None:
            found.append((float("nan"), float("nan")))
        else:
            gdv = float(gdv_of_sums(*left, width).value)
            found.append((gdv, float(silhouettes(*left).mean())))
    apart, near = torch.tensor(found, dtype=torch.float64, device=d.device).T
    return apart, near


def _shuffled_sums(d: Tensor, labels: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    if labels is None:
        return
    first = 0
    # The spread of the null is a thousand times what float32 rounds off.
    for sums in class_sums(d.float(), labels):
        yield labels[first : first + len(sums)], sums
        first += len(sums)


def _by_parts(
    parts: Tensor, codes: Tensor, labels: Tensor | None, draws: Draws
) -> dict[str, dict[str, float]]:
    """Agreement of k-means with the classes; the parts stay, labels and weights change."""
    table = contingency(codes, parts)
    null = None if labels is None else contingency(labels, parts)
    weights = None if draws.without is None else draws.without.to(parts.device)
    without = None if weights is None else contingency(codes, parts, weights)
    found = {}
    for name, measure in (("ari", adjusted_rand), ("nmi", normalised_information)):
        value = measure(table)
        found[name] = _against(name, value, None if null is None else measure(null))
        found[name] |= _jackknife(value, None if without is None else measure(without), most=1.0)
    return found


def _parts(z: Tensor, draws: Draws, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    wanted = int(draws.codes.max()) + 1
    distinct = len(torch.unique(z, dim=0))
    model = KMeans(min(wanted, distinct), n_init=3, random_state=seed)
    return torch.from_numpy(model.fit_predict(z.float().cpu().numpy()).astype(np.int64))


def _by_scatter(
    z: Tensor, codes: Tensor, labels: Tensor | None, draws: Draws
) -> dict[str, dict[str, float]]:
    whole = collapse(z, codes)
    null = None if labels is None else collapse(z, labels)
    without = None if draws.without is None else collapse(z, codes, draws.without)
    return {
        name: _against(name, getattr(whole, name), None if null is None else getattr(null, name))
        | _jackknife(
            getattr(whole, name), None if without is None else getattr(without, name), least=0.0
        )
        for name in ("fisher", "nc1")
    }


def _by_rows(values: Tensor, draws: Draws) -> dict[str, float]:
    """Interval of a mean over rows."""
    if draws.weights is None:
        return _interval(None)
    weights = draws.weights.to(values)
    return _interval((weights @ values) / weights.sum(1))


def _interval(resampled: Tensor | None) -> dict[str, float]:
    if resampled is None:
        return {"ci_low": float("nan"), "ci_high": float("nan")}
    low, high = np.nanpercentile(resampled.cpu().numpy(), [2.5, 97.5])
    return {"ci_low": float(low), "ci_high": float(high)}


def _jackknife(
    value: Tensor, without: Tensor | None, *, least: float = -np.inf, most: float = np.inf
) -> dict[str, float]:
    """Resampled groups would be biased here: copies of rows bring class means apart."""
    if without is None or not torch.isfinite(torch.cat([value, without])).all():
        return _interval(None)
    low, high = (float(end) for end in jackknife(float(value), without.cpu().numpy()))
    return {"ci_low": float(np.maximum(least, low)), "ci_high": float(np.minimum(most, high))}


def _against(name: str, value: Tensor, null: Tensor | None) -> dict[str, float]:
    """The mean value, and where it stands among the shuffled ones."""
    here = float(value.mean())
    if null is None:
        return {"value": here}
    drawn = (null.mean(1) if null.dim() == 2 else null).cpu()
    beyond = int((drawn <= here).sum() if name in LOWER else (drawn >= here).sum())
    return {
        "value": here,
        "null_mean": float(drawn.mean()),
        "null_sd": float(drawn.std()),
        "p": (1 + beyond) / (1 + len(drawn)),
    }


def lines_of(scores: dict[str, dict[str, float]], neighbours: int) -> list[dict[str, Any]]:
    """One line per measure, with its unit and how it was computed."""
    return [
        {
            "part": name,
            **found,
            "unit": UNITS.get(name, "ratio"),
            "estimator": ESTIMATORS[name].format(k=neighbours),
        }
        for name, found in scores.items()
    ]
