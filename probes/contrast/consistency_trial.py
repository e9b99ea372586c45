"""Contrast directions at one site: how well they agree with the label, beside what else would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.hooks.sites import layer_of
from layerscope.probes.contrast import consistency
from layerscope.probes.contrast.consistency import Found
from layerscope.probes.contrast.consistency_finding import COLUMNS
from layerscope.probes.contrast.pairs import Pairs
from layerscope.probes.kinds.kind import Asked
from layerscope.probes.kinds.linear import classify
from layerscope.probes.reading.sources import Source
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import engine

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

_DIRECTIONS = 200
_PERMUTATIONS = 1000
Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Trial:
    """What the sites share: pairs, folds, resamples, permuted labels."""

    find: Callable[[Tensor, Tensor, Tensor, int], Found]
    """Directions of sides ``[pairs, width]`` for each training set ``[fits, pairs]``, by seed."""
    pairs: Pairs
    asked: Asked

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        return self.pairs.plan.values

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        bounds = self.pairs.plan.bounds
        return np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))

    @cached_property
    def trains(self) -> Tensor:
        """``[folds + 1, pairs]``: all but each fold, and all."""
        folds = np.arange(self.pairs.plan.folds + 1)
        return torch.from_numpy(folds[:, None] != self.fold)

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.pairs.plan.groups, seed=self.asked.seed)

    @cached_property
    def permuted(self) -> NDArray[np.int64]:
        """``[draws, pairs]`` labels of other pairs; of other groups where a group has one label."""
        generator = np.random.default_rng(self.asked.seed)
        groups, codes = self.pairs.plan.groups, self.codes
        ones = np.bincount(groups, codes) / np.bincount(groups)
        if not np.isin(ones, (0, 1)).all():
            return np.stack([generator.permutation(codes) for _ in range(_PERMUTATIONS)])
        values = ones.astype(np.int64)
        return np.stack([generator.permutation(values)[groups] for _ in range(_PERMUTATIONS)])

    def taken(self, source: Source) -> float:
        """Bytes of one site: both sides, their difference in double precision and a copy."""
        width = max(source.store.sites[site].width for site in source.sites)
        return 24.0 * len(self.codes) * width

    def line(self, source: Source, site: str) -> dict[str, Any]:
        first, second = self._sides(source.store, site)
        place = {"site": site, "layer": layer_of(site), "width": first.shape[1]}
        if torch.equal(first, second):
            return place | {"value": float("nan")}
        found, hits = self._found(first, second)
        low, high = self._interval(hits)
        null = self._folded(self.permuted == np.where(hits, self.codes, 1 - self.codes))
        line: dict[str, Any] = {
            "value": float(hits.mean()),
            "ci_low": low,
            "ci_high": high,
            "null_mean": float(null.mean()),
            "null_sd": float(null.std(ddof=1)),
            "top_share": float(found.share[-1]),
            "loss": float(found.loss[-1]),
            "stability": float((found.direction[:-1] @ found.direction[-1]).abs().mean()),
        }
        line |= place | self._beside(first - second)
        if source.twin is not None:
            _, hits = self._found(*self._sides(source.twin, site))
            low, high = self._interval(hits)
            line |= {"twin": float(hits.mean()), "twin_low": low, "twin_high": high}
        return line

    def _sides(self, store: Store, site: str) -> tuple[Tensor, Tensor]:
        by = engine("torch", 0, device=self.asked.device)
        sides = []
        for index in (self.pairs.first, self.pairs.second):
            x = store[site][index].float()
            check_finite(site, x, index)
            sides.append(x.to(by.device))
        return sides[0], sides[1]

    def _found(self, first: Tensor, second: Tensor) -> tuple[Found, Hits]:
        """Directions, and whether each held-out pair is on the right end of the one without it."""
        trains = self.trains.to(first.device)
        found = self.find(first, second, trains, self.asked.seed)
        scores = found.scores(first - second)[:-1]
        turned = torch.sign(found.direction[:-1] @ found.direction[-1])[:, None]
        held = scores * torch.where(turned == 0, 1.0, turned)
        own = held.cpu().numpy()[self.fold, np.arange(len(self.fold))]
        return found, _best_end((own > 0) == self.codes)

    def _beside(self, difference: Tensor) -> dict[str, float]:
        """A probe that is told the labels, directions at random, and no centring."""
        plan, by = self.pairs.plan, engine("torch", 0, device=self.asked.device)
        design = Design.of(difference, plan.bounds, device=by.device)
        told = classify(by, design, torch.from_numpy(self.codes)[None].to(by.device), 2).values[0]
        supervised = told == self.codes
        low, high = self._interval(supervised)
        centred = difference - difference.mean(0)
        generator = torch.Generator().manual_seed(self.asked.seed)
        drawn = torch.randn(_DIRECTIONS, difference.shape[1], generator=generator)
        chance = self._folded(((centred @ drawn.to(centred).T > 0).T.cpu().numpy()) == self.codes)
        raw = consistency.closed(difference, self.trains[-1:].to(difference.device), centred=False)
        uncentred = (raw.scores(difference)[0] > 0).cpu().numpy() == self.codes
        return {
            "supervised": float(supervised.mean()),
            "supervised_low": low,
            "supervised_high": high,
            "random": float(chance.mean()),
            "random_high": float(np.quantile(chance, 0.975)),
            "uncentred": float(_best_end(uncentred).mean()),
        }

    @staticmethod
    def _folded(hits: Hits) -> NDArray[np.float64]:
        """Accuracy of each line, with the better of its two ends."""
        shares: NDArray[np.float64] = hits.mean(-1)
        return np.maximum(shares, 1 - shares)

    def _interval(self, hits: Hits) -> tuple[float, float]:
        return self.bootstrap.ratio((~hits).astype(np.float64), np.ones(len(hits)))

    def table(self, lines: list[dict[str, Any]], estimator: str) -> pd.DataFrame:
        import pandas as pd

        plan = self.pairs.plan
        counts = np.bincount(self.codes)
        table = pd.DataFrame(lines)
        table["label"] = plan.label
        table["baseline"] = float(counts.max() / counts.sum())
        table["n"] = len(self.codes)
        table["n_groups"] = self.bootstrap.count
        table["unit"] = "accuracy"
        table["estimator"] = estimator
        table["layer"] = table["layer"].astype("Int64")
        return table[[column for column in COLUMNS if column in table]]


def _best_end(hits: Hits) -> Hits:
    """Which end means true is not known without labels: the better one counts."""
    return hits if hits.mean() >= 0.5 else ~hits
