"""Nearest centroids over the layers of a store, beside permuted labels and the length of the traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerscope.hooks.sites import layer_of
from layerscope.probes.contrast.centroids import (
    Distances,
    Metric,
    Score,
    balanced,
    check_left,
    judged,
    layer_distances,
)
from layerscope.probes.contrast.ranking import auc, length_strata, votes
from layerscope.probes.contrast.traces import Traces
from layerscope.probes.scoring.controls import majority_hits
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.store import Store

_PERMUTATIONS = 20
_DRAWS = 1000
_TWIN = {"": "value", "_low": "ci_low", "_high": "ci_high"}
_VOTERS = (1, 2, 4, 8, 16, 32, 64)
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Trial:
    """What all layers share: labels, permuted labels, problems, resamples."""

    traces: Traces
    metric: Metric
    normalise: bool
    balance: bool
    weights: tuple[float, ...] | None
    score: Score
    seed: int = 0
    device: str | None = None

    @property
    def groups(self) -> NDArray[np.int64]:
        return self.traces.plan.groups

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.groups, seed=self.seed)

    @cached_property
    def within(self) -> bool:
        """Whether labels are permuted within problems: most traces have both labels beside them."""
        size = np.bincount(self.groups)
        good = np.bincount(self.groups, self.traces.correct)
        return bool(((good > 0) & (good < size))[self.groups].mean() >= 0.5)

    @cached_property
    def labels(self) -> list[Bools]:
        """The true labels, then permuted ones.

        Raises:
            ValueError: a problem holds all traces of one side, or nearly every permutation does that.
        """
        check_left(self.traces.correct, self.groups, self._used(self.traces.correct))
        generator = np.random.default_rng(self.seed)
        return [self.traces.correct, *(self._drawn(generator) for _ in range(_PERMUTATIONS))]

    def _drawn(self, generator: np.random.Generator) -> Bools:
        """Permuted labels by which every problem can be judged, as by the true ones."""
        for _ in range(_DRAWS):
            labels = self._permuted(generator)
            if judged(labels, self.groups, self._used(labels)):
                return labels
        raise ValueError(
            f"in each of {_DRAWS:,} permutations of the labels all traces of one side belong to one "
            "problem, so there is no null to hold the value against; give more problems"
        )

    def _permuted(self, generator: np.random.Generator) -> Bools:
        correct = self.traces.correct
        if not self.within:
            return generator.permutation(correct)
        order = np.lexsort((generator.random(len(correct)), self.groups))
        drawn = np.empty_like(correct)
        drawn[np.argsort(self.groups, kind="stable")] = correct[order]
        return drawn

    @cached_property
    def used(self) -> list[Bools]:
        """Which traces may enter a centroid, for each set of labels."""
        return [self._used(labels) for labels in self.labels]

    def _used(self, labels: Bools) -> Bools:
        """All traces; or as many of both sides, not all of one side from one problem."""
        every = np.ones(len(labels), bool)
        if not self.balance or not judged(labels, self.groups, every):
            return every
        drawn = (balanced(labels, seed=self.seed + further) for further in range(_DRAWS))
        good = (used for used in drawn if judged(labels, self.groups, used))
        return next(good, balanced(labels, seed=self.seed))

    def layer(self, store: Store, site: str, permuted: bool = True) -> list[Distances]:
        """Distances at one layer, by true labels and by permuted ones."""
        delta = self.traces.delta(store, site, self.device)
        count = len(self.labels) if permuted else 1
        found = []
        for labels, used in list(zip(self.labels, self.used, strict=True))[:count]:
            sides = layer_distances(
                delta, labels, self.groups, used, metric=self.metric, normalise=self.normalise
            )
            found.append(Distances(*(side.cpu()[:, None] for side in sides)))
        return found

    def line(self, found: Sequence[Distances], weights: Sequence[float] | None) -> dict[str, Any]:
        """Columns of one layer, or of several together."""
        margins = [one.score(weights).numpy() for one in found]
        if not margins[0].any():
            return {"value": float("nan")}
        hits = (margins[0] > 0) == self.traces.correct
        low, high = self._interval(hits)
        score = found[0].score(weights, self.score).numpy()
        line: dict[str, Any] = {"value": float(hits.mean()), "ci_low": low, "ci_high": high}
        line["balanced"] = self._balanced(hits)
        null = [
            float(((m > 0) == labels).mean())
            for m, labels in zip(margins[1:], self.labels[1:], strict=False)
        ]
        if null:
            line |= {"null_mean": float(np.mean(null)), "null_sd": float(np.std(null, ddof=1))}
        line["auc"] = auc(score, self.traces.correct)
        line["auc_problem"] = auc(score, self.traces.correct, self.groups)
        line["auc_length"] = auc(score, self.traces.correct, length_strata(self.traces.lengths))
        return line

    def _interval(self, hits: Bools) -> tuple[float, float]:
        return self.bootstrap.ratio((~hits).astype(np.float64), np.ones(len(hits)))

    def _balanced(self, hits: Bools) -> float:
        correct = self.traces.correct
        return float((hits[correct].mean() + hits[~correct].mean()) / 2)

    @cached_property
    def beside(self) -> dict[str, float]:
        """What the commonest label and the length alone would score."""
        plan, correct = self.traces.plan, self.traces.correct
        line = {"baseline": float(majority_hits(plan.values, plan.bounds, 2).mean())}
        lengths = self.traces.lengths
        if lengths.min() == lengths.max():
            return line | {"length": float("nan"), "length_auc": float("nan")}
        logs = torch.from_numpy(np.log(lengths.astype(np.float64)))[:, None]
        right, wrong = layer_distances(logs, correct, self.groups, self.used[0])
        margin = (wrong - right).numpy()
        return line | {
            "length": float(((margin > 0) == correct).mean()),
            "length_auc": auc(margin, correct),
        }

    def reranked(self, found: Distances) -> list[dict[str, Any]]:
        """Problems solved by the commonest answer of the best `k` traces; empty without answers."""
        answers = self.traces.answers
        if answers is None:
            return []
        score = found.score(self.weights, self.score).numpy()
        most = int(np.bincount(self.groups).max())
        problems = GroupBootstrap(np.arange(self.bootstrap.count), seed=self.seed)
        lines = []
        for k in [k for k in _VOTERS if k <= most]:
            voted = votes(score, self.traces.correct, self.groups, answers, k)
            missed = (~voted.solved).astype(np.float64)
            low, high = problems.ratio(missed, np.ones(len(missed)))
            lines.append(
                {
                    "part": "rerank",
                    "k": k,
                    "value": float(voted.solved.mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "baseline": float(voted.majority.mean()),
                    "single": float(voted.single.mean()),
                    "oracle": float(voted.oracle.mean()),
                    "n": len(missed),
                    "unit": "problems solved",
                }
            )
        return lines

    def lines(
        self, store: Store, sites: Sequence[str], twin: Store | None, seen: Any
    ) -> list[dict[str, Any]]:
        """One line per layer, one for all of them, and those of reranking."""
        layers, twins, lines = [], [], []
        for site in seen(sites):
            found = self.layer(store, site)
            line = {"part": "layer", "site": site, "layer": layer_of(site)} | self.line(found, None)
            line["width"] = store.sites[site].width
            if twin is not None:
                fresh = self.layer(twin, site, permuted=False)
                line |= _twin(self.line(fresh, None))
                twins.append(fresh[0])
            layers.append(found)
            lines.append(line | self.beside)
        whole = [_joined(found) for found in zip(*layers, strict=True)]
        line = {"part": "all", "site": f"{len(layers)} layers"} | self.line(whole, self.weights)
        line["width"] = sum(store.sites[site].width for site in sites)
        if twins:
            line |= _twin(self.line([_joined(twins)], self.weights))
        return [*lines, line | self.beside, *self.reranked(whole[0])]


def _joined(layers: Sequence[Distances]) -> Distances:
    right, wrong = zip(*((one.right, one.wrong) for one in layers), strict=True)
    return Distances(torch.cat(right, 1), torch.cat(wrong, 1))


def _twin(line: dict[str, Any]) -> dict[str, Any]:
    return {f"twin{end}": line.get(name) for end, name in _TWIN.items()}
