"""How well a label is read from one, two or five latents, and from as many single dimensions.

For each class against the rest: the k latents whose means inside and outside differ most, and
scikit-learn's logistic regression on them (SAEBench, arXiv 2503.09532, after Gurnee et al. 2023).
Latents are chosen and the regression fitted on training texts; the score is of other texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.analyses.sae.measuring.coded_rows import Coder, class_gaps, columns
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.intervals import GroupBootstrap

Floats = NDArray[np.float64]
KS = (1, 2, 5)
NULLS = 3
"""Times the labels are shuffled."""
FOLDS = 5
MOST_CLASSES = 20


@dataclass(frozen=True)
class Probed:
    """Balanced accuracy, mean over classes against the rest; chance is a half."""

    value: float
    low: float
    high: float
    null_mean: float
    """With shuffled labels; NaN where that was not asked."""
    null_sd: float
    n: int
    """Test rows."""


def sparse_probing(
    rows: MeasuredRows,
    plan: Plan,
    coders: Mapping[str, tuple[Coder, int]],
    device: torch.device,
    *,
    ks: Sequence[int] = KS,
    with_null: str = "sae",
    seed: int = 0,
) -> dict[tuple[str, int], Probed]:
    """Scores by coder and k.

    Args:
        rows: Any rows of the same store.
        plan: The rows with the label, their classes and folds; the first fold is tested.
        coders: Name -> (codes of x, number of latents).
        device: Where to encode.
        ks: How many latents a probe sees.
        with_null: Of this coder, shuffled labels as well.
        seed: Of the shuffles and intervals.
    """
    test = np.arange(plan.bounds[0], plan.bounds[1])
    train = np.arange(plan.bounds[1], plan.bounds[-1])
    classes = _commonest(plan.values[train])
    owners = _renumbered(plan.groups[train])
    shuffled = shuffled_labels(plan.values[train], owners, draws=NULLS, seed=seed)
    bootstrap = GroupBootstrap(_renumbered(plan.groups[test]), seed=seed)
    truth = plan.values[test][None] == classes[:, None]
    everything = replace(rows, index=plan.index, groups=plan.groups)
    fitted = replace(rows, index=plan.index[train], groups=plan.groups[train])
    found = {}
    for name, (coder, latents) in coders.items():
        labels = [plan.values[train]] + (list(shuffled) if name == with_null else [])
        members = np.concatenate([one[None] == classes[:, None] for one in labels])
        gaps = class_gaps(fitted, coder, latents, device, members)
        best = np.argsort(-np.abs(gaps), axis=1)[:, : max(ks)]
        chosen, place = np.unique(best, return_inverse=True)
        place = place.reshape(best.shape)
        values = columns(everything, coder, latents, device, chosen)
        for k in ks:
            said = np.stack(
                [
                    predicted(values[train][:, at[:k]], one, values[test][:, at[:k]])
                    for at, one in zip(place, members, strict=True)
                ]
            )
            found[name, k] = _scored(said.reshape(len(labels), *truth.shape), truth, bootstrap)
    return found


def full_probe(
    rows: MeasuredRows, plan: Plan, coder: Coder, width: int, device: torch.device, *, seed: int = 0
) -> Probed:
    """The same regression on every dimension of x: what there is to be read linearly."""
    test = np.arange(plan.bounds[0], plan.bounds[1])
    train = np.arange(plan.bounds[1], plan.bounds[-1])
    classes = _commonest(plan.values[train])
    everything = replace(rows, index=plan.index, groups=plan.groups)
    values = columns(everything, coder, width, device, np.arange(width))
    truth = plan.values[test][None] == classes[:, None]
    members = plan.values[train][None] == classes[:, None]
    said = np.stack([predicted(values[train], one, values[test]) for one in members])
    bootstrap = GroupBootstrap(_renumbered(plan.groups[test]), seed=seed)
    return _scored(said[None], truth, bootstrap)


def predicted(train: Floats, labels: NDArray[np.bool_], test: Floats) -> NDArray[np.bool_]:
    """What a balanced logistic regression says of the test rows; both classes weigh the same."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, sd = train.mean(0), train.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Rows outnumber dimensions: a few Newton steps instead of a hundred gradients.
        model = LogisticRegression(class_weight="balanced", max_iter=300, solver="newton-cholesky")
        model.fit((train - mean) / sd, labels)
    found: NDArray[np.bool_] = model.predict((test - mean) / sd).astype(bool)
    return found


def _scored(said: NDArray[np.bool_], truth: NDArray[np.bool_], bootstrap: GroupBootstrap) -> Probed:
    """Of predictions [label sets, classes, rows]; the first set are the true labels."""
    whole = _balanced(said, truth, np.ones((1, truth.shape[1])))[:, 0]
    counts = np.eye(bootstrap.count)[bootstrap.groups]
    hits = [_by_group(said[0], truth, counts), _by_group(~said[0], ~truth, counts)]
    drawn = bootstrap.times.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = [(both @ drawn.T) / (there @ drawn.T) for both, there in hits]
        usual = sum(both.sum(1) / there.sum(1) for both, there in hits) / 2
    # A draw without a rare class keeps its usual score: without it the mean would be another one.
    scores = (rates[0] + rates[1]) / 2
    scores = np.where(np.isnan(scores), usual[:, None], scores)
    low, high = np.percentile(np.nanmean(scores, axis=0), [2.5, 97.5])
    null = whole[1:]
    return Probed(
        value=float(whole[0]),
        low=float(low),
        high=float(high),
        null_mean=float(null.mean()) if len(null) else float("nan"),
        null_sd=float(null.std(ddof=1)) if len(null) > 1 else float("nan"),
        n=truth.shape[1],
    )


def _balanced(said: NDArray[np.bool_], truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """[label sets, draws]"""
    with np.errstate(invalid="ignore", divide="ignore"):
        right = ((said & truth) @ weights.T) / (truth @ weights.T)
        left = ((~said & ~truth) @ weights.T) / (~truth @ weights.T)
    found: Floats = np.nanmean((right + left) / 2, axis=-2)
    return found


def _by_group(
    said: NDArray[np.bool_], truth: NDArray[np.bool_], counts: Floats
) -> tuple[Floats, Floats]:
    """[classes, groups] rows that are there and said, and that are there."""
    return (said & truth) @ counts, truth @ counts


def _commonest(values: NDArray[np.int64]) -> NDArray[np.int64]:
    kinds, counts = np.unique(values, return_counts=True)
    return np.sort(kinds[np.argsort(-counts, kind="stable")][:MOST_CLASSES])


def _renumbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)
