"""Running counts of all sites as the table of `sparsity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerscope.analyses.activity.counters import (
    FIRING,
    LEVELS,
    MEASURES,
    Counters,
)
from layerscope.analyses.activity.neuron_sources import Source
from layerscope.analyses.material.resampling import Floats, mean_intervals
from layerscope.analyses.measures.sparseness import (
    gaussian_active,
    gaussian_energy,
    gaussian_hoyer,
    gaussian_treves_rolls,
)

COLUMNS = (
    "site",
    "layer",
    "part",
    "measure",
    "level",
    "value",
    "ci_low",
    "ci_high",
    "baseline",
    "first",
    "twin",
    "twin_low",
    "twin_high",
    "count",
    "bound",
    "low",
    "high",
    "neuron",
    "peak",
    "mean_ratio",
    "apart",
    "position",
    "token",
    "loss",
    "added",
    "added_low",
    "added_high",
    "control",
    "width",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/sparsity.md says what each one means."""
RATES = np.array([0, 1e-4, 1e-3, 1e-2, 0.03, *np.arange(1, 11) / 10])
"""Edges of the histogram of firing rates; what never fires is counted apart."""
LARGEST = 3
"""Units of each site that are listed with their largest activation."""


@dataclass(frozen=True)
class Site:
    """One site, and what it is."""

    name: str
    layer: int | None
    part: str
    """``neurons`` (no gate), ``product``, ``gate``, ``up``, or ``units`` (any other site)."""


def lines_of(
    sites: Sequence[Site],
    counted: Mapping[str, Counters],
    twin: Mapping[str, Counters] | None,
    source: Source,
    massive: float,
    seed: int,
) -> list[dict[str, Any]]:
    """The lines of the table, site by site."""
    lines = []
    for site in sites:
        counters = counted[site.name]
        shared = {"site": site.name, "layer": site.layer, "part": site.part}
        shared |= {"width": counters.width, "n_groups": counters.counts.shape[1]}
        own = [
            *_means(counters, twin[site.name] if twin else None, seed),
            *_dead(counters, twin[site.name] if twin else None),
            *_rates(counters),
            *_massive(counters, source, massive),
        ]
        lines += [shared | line for line in own]
    return lines


def _means(counters: Counters, twin: Counters | None, seed: int) -> list[dict[str, Any]]:
    value, low, high = _intervals(counters, seed)
    first = _ratio(*_totals(counters, 1))
    others = _intervals(twin, seed) if twin else None
    lines = []
    for at, (measure, level) in enumerate(MEASURES):
        share = measure in ("active", "energy")
        line = {
            "measure": measure,
            "level": level,
            "value": value[at],
            "ci_low": low[at],
            "ci_high": high[at],
            "baseline": _gaussian(measure, level, counters.width),
            "first": first[at],
            "count": value[at] * counters.width if share else np.nan,
            "n": int(_counts(counters, 0)[:, at].sum()),
            "unit": "share of units" if share else "0 to 1",
            "estimator": "mean over tokens",
        }
        if others:
            line |= dict(
                zip(("twin", "twin_low", "twin_high"), (x[at] for x in others), strict=True)
            )
        lines.append(line)
    return lines


def _gaussian(measure: str, level: float, width: int) -> float:
    """What dense rows of normal numbers would give."""
    if measure == "active":
        return gaussian_active(level)
    if measure == "energy":
        return gaussian_energy(level)
    return gaussian_hoyer(width) if measure == "hoyer" else gaussian_treves_rolls()


def _counts(counters: Counters, kind: int) -> Floats:
    """``[groups, MEASURES]`` rows that each mean is over."""
    silent = np.array([m in ("hoyer", "treves_rolls") for m, _ in MEASURES])
    counts: Floats = counters.counts[kind][:, None] - counters.silent[kind][:, None] * silent
    return counts


def _totals(counters: Counters, kind: int) -> tuple[Floats, Floats]:
    return counters.sums[kind].sum(0), _counts(counters, kind).sum(0)


def _ratio(total: Floats, count: Floats) -> Floats:
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _intervals(counters: Counters, seed: int) -> tuple[Floats, Floats, Floats]:
    counts = _counts(counters, 0)
    low, high = np.empty(len(MEASURES)), np.empty(len(MEASURES))
    for count in (0, len(MEASURES) - 1):  # rows of zeros are left out of the last ones
        same = [at for at in range(len(MEASURES)) if (counts[:, at] == counts[:, count]).all()]
        with np.errstate(invalid="ignore"):
            ends = mean_intervals(counters.sums[0][:, same], counts[:, count], seed=seed)
        low[same], high[same] = ends
    return _ratio(*_totals(counters, 0)), low, high


def _dead(counters: Counters, twin: Counters | None) -> list[dict[str, Any]]:
    rows = int(counters.counts[0].sum())
    lines = []
    for at, level in enumerate(FIRING):
        dead = int((counters.fired[at] == 0).sum())
        line = {
            "measure": "dead",
            "level": LEVELS[level],
            "value": dead / counters.width,
            "count": dead,
            # With no firing in n independent rows, 95 % of the time the rate is below this.
            "bound": 1 - 0.05 ** (1 / rows) if rows else np.nan,
            "n": rows,
            "unit": "share of units",
            "estimator": "count over tokens",
        }
        if twin:
            line["twin"] = float((twin.fired[at] == 0).double().mean())
        lines.append(line)
    return lines


def _rates(counters: Counters) -> list[dict[str, Any]]:
    """The firing rates of the units as a histogram."""
    rows = max(1, int(counters.counts[0].sum()))
    lines = []
    for at, level in enumerate(FIRING):
        rates = counters.fired[at].double().cpu().numpy() / rows
        alive = np.histogram(rates[rates > 0], RATES)[0]
        shared = {"measure": "rate", "level": LEVELS[level], "n": rows}
        shared |= {"unit": "share of units", "estimator": "histogram of firing rates"}
        bins = [(0.0, 0.0, int((rates == 0).sum()))]
        bins += [(a, b, int(x)) for a, b, x in zip(RATES, RATES[1:], alive, strict=False)]
        lines += [
            shared | {"low": a, "high": b, "count": x, "value": x / counters.width}
            for a, b, x in bins
        ]
    return lines


def _massive(counters: Counters, source: Source, massive: float) -> list[dict[str, Any]]:
    """Units whose largest activation dwarfs what is usual in their layer."""
    rows = int(counters.counts[0].sum())
    means = (counters.size / max(1, rows)).cpu().numpy()
    usual = float(np.median(means)) or float(means.mean())
    peak = counters.peak.cpu().numpy()
    ratio = peak / usual if usual else np.zeros_like(peak)
    found = int((ratio > massive).sum())
    shared = {"level": massive, "n": int(counters.counts.sum())}
    lines: list[dict[str, Any]] = [
        shared
        | {"measure": "massive", "value": found / counters.width, "count": found}
        | {"unit": "share of units", "estimator": "count over tokens"}
    ]
    for unit in np.argsort(-ratio, kind="stable")[:LARGEST].tolist():
        text, position, apart = counters.where[unit].tolist()
        lines.append(
            shared
            | {"measure": "largest", "value": ratio[unit], "neuron": unit, "peak": peak[unit]}
            # A unit that is large on average too is no rare event.
            | {"mean_ratio": means[unit] / usual if usual else np.nan, "apart": float(apart)}
            | {"position": position, "token": source.named(text, position)}
            | {"unit": "times the usual", "estimator": "maximum over tokens"}
        )
    return lines
