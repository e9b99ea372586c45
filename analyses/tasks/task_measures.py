"""Every measure of one site: its value, the interval, and what random conditions would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.material.blocks import jackknife
from layerscope.analyses.measures.condition_decoders import FoldGrams, fold_grams
from layerscope.analyses.measures.conditions import ConditionGrams, condition_grams
from layerscope.analyses.measures.dichotomies import (
    Dichotomy,
    Rule,
    Signs,
    balanced,
    ccgp_sets,
    named_dichotomies,
    parallelism,
)
from layerscope.analyses.measures.kernels import (
    alignment,
    centred,
    participation_ratio,
    shuffled,
)
from layerscope.analyses.tasks.task_conditions import Conditions
from layerscope.analyses.tasks.task_scores import Scores

DRAWS = {"alignment": 200, "parallelism": 50, "ccgp": 20, "decoding": 10}
"""Behind each null: random orders of the conditions, other divisions of them, or (decoding) of rows."""
SPLITS = 64
"""Most splits of one dichotomy in CCGP."""
ESTIMATORS = {
    "alignment": "cosine of centred Gram matrices of condition means, products across groups only",
    "parallelism": "mean cosine of coding vectors, best pairing; products across groups only",
    "dimension": "participation ratio of centred condition means, products across groups only",
    "ccgp_paired": "CCGP, split rule paired: trained on half of the contexts, tested on the others",
    "ccgp_all": "CCGP, split rule all: one condition of each side held out, every choice",
    "decoding": "ridge, common noise (Ledoit-Wolf), conditions alike; held-out groups",
}


@dataclass(frozen=True)
class Task:
    """What all sites of one table share."""

    conditions: Conditions
    targets: ConditionGrams
    rules: tuple[Rule, ...]
    most: int
    decodable: float
    seed: int
    dichotomies: list[Dichotomy] = field(init=False)

    def __post_init__(self) -> None:
        found = named_dichotomies(self.conditions.names, self.conditions.values)
        object.__setattr__(self, "dichotomies", found)

    @cached_property
    def halves(self) -> Signs:
        """All balanced dichotomies, or so many of them at random."""
        return balanced(len(self.conditions), most=self.most, seed=self.seed)

    def grams(self, x: Tensor) -> ConditionGrams:
        at = self.conditions
        return condition_grams(x, at.codes, at.groups, len(at), at.blocks)


def alignments(task: Task, name: str, one: ConditionGrams, other: ConditionGrams) -> dict[str, Any]:
    """One line: alignment of two sets of condition means, with `other` in random order as the null."""
    a, b = centred(one.whole), centred(other.whole)
    value = float(alignment(a, b))
    left = alignment(centred(one.without), centred(other.without))
    orders = shuffled(b, DRAWS["alignment"], seed=task.seed)
    null = alignment(a, torch.stack(list(orders)))
    return _line(name, "", value, left, null, -1.0, 1.0, "cosine", ESTIMATORS["alignment"])


def measure(task: Task, x: Tensor, grams: ConditionGrams) -> Iterator[dict[str, Any]]:
    """The lines of one site that need no other site.

    Args:
        x: ``[rows, width]`` in the order of the conditions' codes.
        grams: The same rows' condition means.
    """
    at = task.conditions
    shuffles = at.shuffles(DRAWS["decoding"], task.seed)
    own, *mixed = fold_grams(x, at.codes, at.folds, len(at), shuffles)
    yield _dimension(task, x, grams, shuffles)
    for one in task.dichotomies:
        yield _parallelism(task, grams, one)
        yield _decoding(task, own, mixed, shuffles, one)
        for rule in task.rules:
            line = _ccgp(task, own, one, rule)
            if line:
                yield line
    yield from _shattering(task, own, mixed, shuffles)


def _dimension(
    task: Task, x: Tensor, grams: ConditionGrams, shuffles: Sequence[Any]
) -> dict[str, Any]:
    at = task.conditions
    value = float(participation_ratio(centred(grams.whole)))
    left = participation_ratio(centred(grams.without))
    mixed = [condition_grams(x, c, at.groups, len(at), at.blocks).whole for c in shuffles]
    null = participation_ratio(centred(torch.stack(mixed)))
    text = ESTIMATORS["dimension"]
    return _line("dimension", "", value, left, null, 0.0, len(at) - 1.0, "dimensions", text)


def _parallelism(task: Task, grams: ConditionGrams, one: Dichotomy) -> dict[str, Any]:
    kernel = grams.whole
    value = parallelism(kernel, one.positive, one.negative)
    left = [parallelism(k, one.positive, one.negative) for k in grams.without]
    others = one.others(DRAWS["parallelism"], task.seed)
    null = [parallelism(kernel, other.positive, other.negative) for other in others]
    text = ESTIMATORS["parallelism"]
    ends = (-1.0, 1.0)
    return _line(
        "parallelism",
        one.name,
        value,
        torch.tensor(left),
        torch.tensor(null),
        *ends,
        "cosine",
        text,
    )


def _ccgp(task: Task, grams: list[FoldGrams], one: Dichotomy, rule: Rule) -> dict[str, Any] | None:
    count = len(task.conditions)
    several = [one, *one.others(DRAWS["ccgp"], task.seed)]
    splits = [ccgp_sets(each, rule, count, most=SPLITS, seed=task.seed) for each in several]
    if not len(splits[0]):
        return None
    train = np.concatenate(splits)
    test = np.concatenate([_untrained(d, s) for d, s in zip(several, splits, strict=True)])
    found = Scores.of(task.conditions, grams, train, test)
    share = found.whole.view(len(several), -1).mean(1)
    left = found.without[:, : len(splits[0])].mean(1)
    name = f"ccgp_{rule}"
    return _accuracy(name, one.name, float(share[0]), left, share[1:], ESTIMATORS[name])


def _decoding(
    task: Task,
    own: list[FoldGrams],
    mixed: Sequence[list[FoldGrams]],
    shuffles: Sequence[Any],
    one: Dichotomy,
) -> dict[str, Any]:
    signs = np.zeros((1, len(task.conditions)), dtype=np.int8)
    signs[0, list(one.positive)], signs[0, list(one.negative)] = 1, -1
    found, null = _against_shuffled(task, own, mixed, shuffles, signs)
    left = found.without[:, 0]
    text = ESTIMATORS["decoding"]
    return _accuracy("decoding", one.name, float(found.whole), left, null[:, 0], text)


def _shattering(
    task: Task, own: list[FoldGrams], mixed: Sequence[list[FoldGrams]], shuffles: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    found, null = _against_shuffled(task, own, mixed, shuffles, task.halves)
    text = f"{ESTIMATORS['decoding']}; {len(task.halves):,} balanced dichotomies"
    whole, left = float(found.whole.mean()), found.without.mean(1)
    yield _accuracy("mean_decoding", "all balanced", whole, left, null.mean(1), text)

    def share(accuracy: Tensor) -> Tensor:
        return (accuracy >= task.decodable).double().mean(-1)

    text = f"{text}, accuracy {task.decodable:g} or more"
    ends = (0.0, 1.0, "share of dichotomies")
    line = _line(
        "shattering", "all balanced", float(share(found.whole)), left, share(null), *ends, text
    )
    # A share of thresholds is too coarse for the jackknife: blocks are drawn again instead.
    low, high = np.percentile(share(found.drawn(task.seed)).numpy(), [2.5, 97.5])
    yield line | {"ci_low": float(low), "ci_high": float(high)}


def _against_shuffled(
    task: Task,
    own: list[FoldGrams],
    mixed: Sequence[list[FoldGrams]],
    shuffles: Sequence[Any],
    signs: Signs,
) -> tuple[Scores, Tensor]:
    """Scores of dichotomies of all conditions, and ``[draws, sets]`` of rows in random conditions."""
    at = task.conditions
    null = [
        Scores.of(at, grams, signs, signs, codes).whole
        for grams, codes in zip(mixed, shuffles, strict=True)
    ]
    return Scores.of(at, own, signs, signs), torch.stack(null)


def _untrained(one: Dichotomy, train: Signs) -> Signs:
    side = np.zeros(train.shape[1], dtype=np.int8)
    side[list(one.positive)], side[list(one.negative)] = 1, -1
    return np.where(train == 0, side, 0).astype(np.int8)


def _accuracy(
    name: str, dichotomy: str, value: float, without: Tensor, null: Tensor, estimator: str
) -> dict[str, Any]:
    line = _line(name, dichotomy, value, without, null, 0.0, 1.0, "accuracy", estimator)
    return line | {"baseline": 0.5}


def _line(
    name: str,
    dichotomy: str,
    value: float,
    without: Tensor,
    null: Tensor,
    least: float,
    most: float,
    unit: str,
    estimator: str,
) -> dict[str, Any]:
    low, high = (float(end.clip(least, most)) for end in jackknife(value, without.numpy()))
    known = null[torch.isfinite(null)]
    return {
        "measure": name,
        "dichotomy": dichotomy,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "null_mean": float(known.mean()) if len(known) else float("nan"),
        "null_sd": float(known.std()) if len(known) > 1 else float("nan"),
        "baseline": float("nan"),
        "unit": unit,
        "estimator": estimator,
    }
