"""One site's clusters as lines of the table: their scores, each cluster, and examples from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.clustering.partitions import (
    Floats,
    Integers,
    Method,
    partition,
    silhouettes_of,
    stability,
    without_structure,
)
from layerscope.analyses.clustering.separation import left_out
from layerscope.analyses.material.blocks import jackknife
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.material.sample import Sample
from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.analyses.measures.agreement import adjusted_rand, contingency
from layerscope.analyses.measures.gdv import half_z
from layerscope.hooks.sites import layer_of

if TYPE_CHECKING:
    import pandas as pd

NULLS = 3
"""Copies of the data without structure that are clustered too."""
WORDS = 6
"""Words that name a cluster."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked of every site."""

    methods: tuple[Method, ...]
    k: int
    least: int
    examples: int
    resamples: int
    seed: int


def lines_at(
    site: str, x: Tensor, chosen: Sample, shown: pd.DataFrame, job: Job
) -> list[dict[str, Any]]:
    """Lines of the parts ``silhouette``, ``stability``, ``agreement``, ``cluster`` and ``example``.

    Args:
        x: ``[rows, width]``
        shown: ``left``, ``token`` and ``right`` of each row.
    """
    z = half_z(x).cpu()
    rows = z.numpy()
    lines: list[dict[str, Any]] = []
    for method in job.methods:
        make = partition(method, k=job.k, least=job.least, seed=job.seed)
        parts = make(rows)
        apart = silhouettes_of(z, parts)
        steady = stability(rows, parts, chosen.groups, make, resamples=job.resamples, seed=job.seed)
        own = [_silhouette(apart, chosen), _stability(steady.agreement)]  # as in _add_nulls
        _add_nulls(own, rows, chosen, method, job)
        if chosen.codes is not None:
            own.append(_agreement(parts, chosen, job.seed))
        shared = {
            "site": site,
            "layer": layer_of(site),
            "method": method,
            "n_groups": int(chosen.groups.max()) + 1,
            "width": z.shape[1],
        }
        counted = {
            "clusters": int(parts.max()) + 1,
            "noise": float((parts < 0).mean()),
            "n": len(parts),
        }
        lines += [shared | counted | line for line in own]
        lines += [
            shared | line
            for line in _clusters(rows, parts, apart, steady.overlap, chosen, shown, job)
        ]
    return lines


def _silhouette(apart: Floats, chosen: Sample) -> dict[str, Any]:
    inside = np.isfinite(apart)
    line = {"part": "silhouette", "unit": "silhouette", "estimator": "all pairs, half-z-scored"}
    if not inside.any():
        return line | {"value": float("nan")}
    count = int(chosen.groups.max()) + 1
    groups = chosen.groups[inside]
    sums = np.bincount(groups, apart[inside], count).astype(np.float64)
    counts = np.bincount(groups, minlength=count).astype(np.float64)
    (low,), (high,) = mean_intervals(sums[:, None], counts)
    return line | {
        "value": float(apart[inside].mean()),
        "ci_low": float(low),
        "ci_high": float(high),
    }


def _stability(agreement: Floats) -> dict[str, Any]:
    low, high = np.percentile(agreement, [2.5, 97.5])
    return {
        "part": "stability",
        "value": float(agreement.mean()),
        "ci_low": float(low),
        "ci_high": float(high),
        "unit": "ARI",
        "estimator": f"{len(agreement)} resamples of four fifths of the groups",
    }


def _add_nulls(
    lines: list[dict[str, Any]], rows: Floats, chosen: Sample, method: Method, job: Job
) -> None:
    """Mean and spread of both scores on data of the same features without structure."""
    apart, steady = [], []
    for draw in range(NULLS):
        null = without_structure(rows, job.seed + draw)
        make = partition(method, k=job.k, least=job.least, seed=job.seed)
        parts = make(null)
        found = silhouettes_of(torch.from_numpy(null), parts)
        apart.append(float(np.nanmean(found)) if np.isfinite(found).any() else float("nan"))
        again = stability(null, parts, chosen.groups, make, resamples=2, seed=job.seed)
        steady.append(again.agreement.mean())
    for line, drawn in zip(lines, (apart, steady), strict=True):
        there = np.array(drawn)[np.isfinite(drawn)]
        line["null_mean"] = float(there.mean()) if len(there) else float("nan")
        line["null_sd"] = float(there.std(ddof=1)) if len(there) > 1 else float("nan")


def _agreement(parts: Integers, chosen: Sample, seed: int) -> dict[str, Any]:
    """With the label; rows in no cluster are one part of their own."""
    codes = torch.from_numpy(np.asarray(chosen.codes))[None]
    own = torch.from_numpy(parts + 1)
    value = float(adjusted_rand(contingency(codes, own)))
    null = torch.from_numpy(shuffled_labels(codes[0].numpy(), chosen.groups, draws=200, seed=seed))
    drawn = adjusted_rand(contingency(null, own))
    without = adjusted_rand(contingency(codes, own, left_out(chosen.groups, seed)))
    low, high = (float(end) for end in jackknife(value, without.numpy()))
    return {
        "part": "agreement",
        "value": value,
        "ci_low": low,
        "ci_high": float(np.minimum(1.0, high)),
        "null_mean": float(drawn.mean()),
        "null_sd": float(drawn.std()),
        "unit": "ARI",
        "estimator": f"clusters against {chosen.label}",
    }


def _clusters(
    rows: Floats,
    parts: Integers,
    apart: Floats,
    overlap: Floats,
    chosen: Sample,
    shown: pd.DataFrame,
    job: Job,
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for cluster in range(int(parts.max()) + 1):
        members = np.flatnonzero(parts == cluster)
        away = np.square(rows[members] - rows[members].mean(0)).sum(1)
        near = members[np.argsort(away, kind="stable")]
        words = Counter(shown["token"].iloc[members])
        line = {
            "part": "cluster",
            "cluster": cluster,
            "value": float(apart[members].mean()),
            "stability": float(overlap[cluster]),
            "n": len(members),
            "words": ", ".join(word for word, _ in words.most_common(WORDS)),
            "unit": "silhouette",
            "estimator": "mean over the cluster",
        }
        lines.append(line | _commonest(chosen, members))
        lines += [
            {"part": "example", "cluster": cluster, "rank": rank, "row": int(chosen.index[row])}
            | {str(name): value for name, value in shown.iloc[row].items()}
            for rank, row in enumerate(_varied(near, shown, job.examples), 1)
        ]
    return lines


def _commonest(chosen: Sample, members: Integers) -> dict[str, Any]:
    """The class that most rows of the cluster have."""
    if chosen.codes is None:
        return {}
    counts = np.bincount(chosen.codes[members], minlength=len(chosen.classes))
    best = int(counts.argmax())
    return {"commonest": str(chosen.classes[best]), "share": float(counts[best] / len(members))}


def _varied(near: Integers, shown: pd.DataFrame, count: int) -> list[int]:
    """The nearest rows, no word more than twice while there are others."""
    seen: Counter[str] = Counter()
    first: list[int] = []
    later: list[int] = []
    words = shown["token"].tolist()
    for row in near:
        word = words[row]
        seen[word] += 1
        (first if seen[word] <= 2 else later).append(int(row))
    return (first + later)[:count]
