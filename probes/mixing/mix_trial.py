"""The mix of layers, cross-validated, beside each layer alone, their plain mean, and all side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.hooks.sites import layer_of
from layerscope.probes.mixing.layer_mix import Mix, fit_mix, moments, plain_mean
from layerscope.probes.mixing.readings import Reading, Readings
from layerscope.probes.reading.sources import Source
from layerscope.probes.scoring.evaluate import Losses, check_finite
from layerscope.store import Store


@dataclass
class MixTrial:
    """One label, all layers."""

    readings: Readings
    l2: float | None
    concat: int
    progress: bool
    reduced: int = field(default=0, init=False)
    """Principal components of each layer that stand side by side; 0: all features do."""

    def lines(self, source: Source) -> list[dict[str, Any]]:
        """One line per layer; then the mix, the best layer, the plain mean, all side by side."""
        from tqdm.auto import tqdm

        readings, sites = self.readings, source.sites
        stack = self._stack(source.store, sites)
        shown = tqdm(sites, "layers alone", unit="site", disable=not self.progress)
        alone = [readings.read(s, stack[i], tasks=1) for i, s in enumerate(shown)]
        plain = self._plain("mean of layers", stack)
        mixed, mixes = self._mixed(stack, plain.penalties, len(readings.targets))
        best = self._best(alone)
        lines = _weight_lines(mixes, sites, [readings.line(reading) for reading in alone])
        mix = {"part": "mix", "site": f"mix of {len(sites)} layers"} | readings.line(mixed)
        mix |= _centre(mixes, sites) | readings.gain(mixed.losses[0], best.losses[0])
        if source.twin is not None:
            mix |= self._twin(source.twin, sites)
        lines += [
            mix,
            {"part": "best", "site": "best single layer"} | readings.line(best),
            {"part": "mean", "site": "plain mean of layers"} | readings.line(plain),
        ]
        if self.concat:
            whole = self._side_by_side(stack)
            lines.append(
                {"part": "concat", "site": "all layers side by side"} | readings.line(whole)
            )
        return [line | {"estimator": _ESTIMATORS[line["part"]]} for line in lines]

    def _stack(self, store: Store, sites: Sequence[str]) -> Tensor:
        """``[layers, rows, width]`` float32."""
        index = self.readings.plan.index
        stack = torch.empty(len(sites), len(index), store.sites[sites[0]].width)
        for number, site in enumerate(sites):
            stack[number] = store[site][index]
            check_finite(site, stack[number], index)
        return stack

    def _mixed(
        self, stack: Tensor, penalties: Sequence[float], tasks: int
    ) -> tuple[Reading, list[Mix]]:
        """Out-of-fold predictions of the mix for each task, and the mix of each fold."""
        from tqdm.auto import tqdm

        plan, by = self.readings.plan, self.readings.by(stack.shape[2])
        classes = len(plan.classes)
        guesses: list[NDArray[Any]] = [np.zeros(len(plan.values)) for _ in range(tasks)]
        mixes, used = [], []
        folds = tqdm(range(plan.folds), "mix", unit="fold", disable=not self.progress)
        for fold in folds:
            held = slice(plan.bounds[fold], plan.bounds[fold + 1])
            rows = _without(stack, held).to(by.device)
            l2 = penalties[fold] if self.l2 is None else self.l2
            for task in range(tasks):
                truth = self.readings.targets[task]
                target = torch.cat([truth[: held.start], truth[held.stop :]]).to(by.device)
                mix = fit_mix(rows, target, classes=classes, l2=l2)
                scores = mix.scores(stack[:, held].to(by.device)).cpu()
                guesses[task][held] = scores.argmax(1) if classes else scores[:, 0]
                if not task:
                    mixes.append(mix)
            used.append(l2)
        losses = [self.readings.losses(task, guess) for task, guess in enumerate(guesses)]
        return Reading(losses, tuple(used), stack.shape[2]), mixes

    def _best(self, alone: Sequence[Reading]) -> Reading:
        """For each fold the layer that is best on the others: choosing costs nothing unseen."""
        losses = np.stack([reading.losses[0].loss for reading in alone])
        bounds, chosen = self.readings.plan.bounds, np.empty(losses.shape[1])
        for start, stop in pairwise(bounds):
            elsewhere = losses.sum(1) - losses[:, start:stop].sum(1)
            chosen[start:stop] = losses[elsewhere.argmin(), start:stop]
        return Reading([Losses(chosen, alone[0].losses[0].scale)], (), alone[0].width)

    def _twin(self, twin: Store, sites: Sequence[str]) -> dict[str, float]:
        stack = self._stack(twin, sites)
        plain = self._plain("mean of the twin's layers", stack)
        line = self.readings.line(self._mixed(stack, plain.penalties, 1)[0])
        return {"twin": line["value"], "twin_low": line["ci_low"], "twin_high": line["ci_high"]}

    def _plain(self, name: str, stack: Tensor) -> Reading:
        """The mean of the layers, each scaled by its deviations over the training rows."""

        def mean(held: slice) -> Tensor:
            return plain_mean(stack, *moments(_without(stack, held)))

        return self.readings.read_by_fold(name, mean, tasks=1)

    def _side_by_side(self, stack: Tensor) -> Reading:
        """All features of all layers, or the first components of their training rows."""
        layers, rows, width = stack.shape
        name = "all layers"
        if layers * width <= self.concat:
            whole = stack.transpose(0, 1).reshape(rows, layers * width)
            return self.readings.read(name, whole, tasks=1)
        self.reduced = count = max(1, self.concat // layers)

        def components(held: slice) -> Tensor:
            return torch.cat([_components(layer, count, held) for layer in stack], 1)

        return self.readings.read_by_fold(name, components, tasks=1)


_ESTIMATORS = {
    "layer": "linear probe of the layer alone",
    "mix": "softmax-weighted mean of standardised layers, linear head",
    "best": "linear probe of the layer that is best on the other folds",
    "mean": "linear probe of the plain mean of standardised layers",
    "concat": "linear probe of all layers side by side",
}


def _without(stack: Tensor, held: slice) -> Tensor:
    """``[..., rows, width]`` less the rows that are held out."""
    return torch.cat([stack[..., : held.start, :], stack[..., held.stop :, :]], -2)


def _components(x: Tensor, count: int, held: slice) -> Tensor:
    """``[rows, count]`` along the first principal components of the rows that are not held out."""
    training = _without(x, held)
    mean = training.mean(0)
    training -= mean
    vectors = torch.linalg.eigh(training.T @ training)[1]
    reduced: Tensor = (x - mean) @ vectors[:, -count:]
    return reduced


def _weight_lines(
    mixes: Sequence[Mix], sites: Sequence[str], alone: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    weights = torch.stack([mix.weights for mix in mixes]).double().cpu().numpy()
    return [
        {
            "part": "layer",
            "site": site,
            "layer": layer_of(site),
            "weight": float(column.mean()),
            "weight_low": float(column.min()),
            "weight_high": float(column.max()),
            "weight_sd": float(column.std(ddof=1)),
        }
        | line
        for site, column, line in zip(sites, weights.T, alone, strict=True)
    ]


def _centre(mixes: Sequence[Mix], sites: Sequence[str]) -> dict[str, float]:
    """Mean layer under the weights (Tenney et al. 2019), with its least and most over folds."""
    layers = [layer_of(site) for site in sites]
    if any(layer is None for layer in layers):
        return {}
    places = torch.tensor([float(layer or 0) for layer in layers])
    centres = [float(mix.weights.cpu() @ places) for mix in mixes]
    return {
        "centre": float(np.mean(centres)),
        "centre_low": min(centres),
        "centre_high": max(centres),
    }
