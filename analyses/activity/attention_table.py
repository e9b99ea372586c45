"""Running counts of all heads as the table of `attention_modes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from layerscope.analyses.activity.head_counts import (
    EDGES,
    STATISTICS,
    HeadCounts,
    median_in_bins,
    median_of,
)
from layerscope.analyses.material.resampling import Floats
from layerscope.hooks.sites import layer_of
from layerscope.probes.scoring.intervals import GroupBootstrap

COLUMNS = (
    "part",
    "site",
    "layer",
    "head",
    "value",
    "ci_low",
    "ci_high",
    "mode",
    "k",
    "visible",
    "effective",
    "rest",
    "rest_low",
    "rest_high",
    "rest_mode",
    "rest_k",
    "sink_share",
    "is_sink",
    "self_share",
    "previous_share",
    "baseline",
    "twin",
    "twin_mode",
    "twin_rest",
    "twin_sink_share",
    "keys",
    "low",
    "high",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/attention_modes.md says what each one means."""
MODES = {"I": 0.5, "II": 0.125, "III": 0.03125, "IV": 0.0}
"""Mode -> the share of the visible keys above which it begins."""
KEYS = ("all", "rest")


def mode_of(share: float) -> str:
    """The operating mode of a head: its median k, over the median number of visible keys.

    >>> [mode_of(x) for x in (0.9, 0.5, 0.1, 1 / 32)]
    ['I', 'II', 'III', 'IV']
    """
    return next(mode for mode, begins in MODES.items() if share > begins or mode == "IV")


def lines_of(
    counted: Mapping[str, HeadCounts],
    twin: Mapping[str, HeadCounts] | None,
    *,
    sink: float,
    share: float,
    seed: int,
) -> list[dict[str, Any]]:
    """A line for each head, then the lines of its histograms."""
    lines = []
    for site, counts in counted.items():
        shared = {"site": site, "layer": layer_of(site), "n_groups": len(counts.counts)}
        shared |= {"n": int(counts.counts.sum())}
        heads = _heads(counts, sink, share, seed)
        if twin:
            others = _heads(twin[site], sink, share, seed)
            for line, other in zip(heads, others, strict=True):
                line |= {"twin": other["value"], "twin_mode": other["mode"]}
                line |= {"twin_rest": other["rest"], "twin_sink_share": other["sink_share"]}
        lines += [shared | line for line in [*heads, *_histograms(counts)]]
    # Heads before histograms, so that the head of the table tells.
    return sorted(lines, key=lambda line: line["part"] != "head")


def _heads(counts: HeadCounts, sink: float, share: float, seed: int) -> list[dict[str, Any]]:
    k, visible = median_of(counts.k), median_of(counts.visible)
    values = k / visible[:, None]
    ends = [_interval(counts, line, values[line], seed) for line in range(2)]
    means = counts.sums.sum(0) / counts.counts.sum()
    found = dict(zip(STATISTICS, means.T, strict=True))
    return [
        {
            "part": "head",
            "head": head,
            "value": values[0, head],
            "ci_low": ends[0][0][head],
            "ci_high": ends[0][1][head],
            "mode": mode_of(values[0, head]),
            "k": k[0, head],
            "visible": visible[0],
            "effective": float(np.exp(found["entropy"][head])),
            "rest": values[1, head],
            "rest_low": ends[1][0][head],
            "rest_high": ends[1][1][head],
            "rest_mode": mode_of(values[1, head]),
            "rest_k": k[1, head],
            "sink_share": found["sink"][head],
            "is_sink": bool(found["sink"][head] >= sink),
            "self_share": found["self"][head],
            "previous_share": found["previous"][head],
            "baseline": share,
            "unit": "share of visible keys",
            "estimator": "median k over median of visible keys",
        }
        for head in range(counts.heads)
    ]


def _interval(counts: HeadCounts, line: int, values: Floats, seed: int) -> tuple[Floats, Floats]:
    """95 % intervals of `values` over groups, from the histograms: ``[heads]`` each."""
    groups = len(counts.counts)
    if groups < 2:
        return np.full(counts.heads, np.nan), np.full(counts.heads, np.nan)
    times = GroupBootstrap(np.arange(groups), seed=seed).times.astype(float)
    low, high = np.empty(counts.heads), np.empty(counts.heads)
    for head in range(counts.heads):
        whole = counts.histogram[line, :, head].astype(float)
        # As factors of the whole's own binned median: the bins are a tenth wide, the value exact.
        with np.errstate(invalid="ignore"):
            drawn = median_in_bins(times @ whole) / median_in_bins(whole.sum(0))
        low[head], high[head] = np.nanpercentile(drawn, [2.5, 97.5]) * values[head]
    return low, high


def _histograms(counts: HeadCounts) -> list[dict[str, Any]]:
    lines = []
    for line, keys in enumerate(KEYS):
        total = counts.histogram[line].sum(0)
        for head, at in zip(*np.nonzero(total), strict=True):
            lines.append(
                {
                    "part": "histogram",
                    "head": int(head),
                    "keys": keys,
                    "low": EDGES[at] if at else 0.0,
                    "high": EDGES[at + 1],
                    "value": total[head, at] / total[head].sum(),
                    "unit": "share of queries",
                    "estimator": "histogram of k over visible keys",
                }
            )
    return lines
