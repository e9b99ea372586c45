"""Confident learning (Northcutt, Jiang and Chuang 2021): which given labels are likely wrong.

Pure functions of out-of-fold probabilities ``[rows, classes]`` and given class numbers ``[rows]``.
The names of the rules are those of cleanlab.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
Method = Literal[
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
]
METHODS: tuple[str, ...] = get_args(Method)
Score = Literal["self_confidence", "margin", "confidence_weighted_entropy"]
SCORES: tuple[str, ...] = get_args(Score)
_TIE = 1e-6


def thresholds(p: Floats, given: Codes) -> Floats:
    """``[classes]`` mean probability of a class over the rows that are given it."""
    return np.array([p[given == k, k].mean() if (given == k).any() else 1.0 for k in _all(p)])


def confident_classes(p: Floats, given: Codes) -> Codes:
    """``[rows]`` the class that each row is confidently of, -1 where it is of none.

    A class is possible where its probability reaches its threshold; of several the most probable
    one counts. Ties go to the given label.
    """
    possible = p >= thresholds(p, given) - _TIE
    likely = np.where(possible, p, -np.inf)
    best = likely.argmax(1)
    rows = np.arange(len(p))
    tied = likely[rows, given] >= likely[rows, best] - _TIE
    best = np.where(tied, given, best)
    return np.where(possible.any(1), best, -1).astype(np.int64)


def confident_joint(p: Floats, given: Codes) -> NDArray[np.int64]:
    """``[classes, classes]`` rows given class i that are confidently of class j."""
    found = confident_classes(p, given)
    counts = np.zeros((p.shape[1], p.shape[1]), dtype=np.int64)
    np.add.at(counts, (given[found >= 0], found[found >= 0]), 1)
    return counts


def joint(p: Floats, given: Codes) -> Floats:
    """``[classes, classes]`` estimated share of rows given class i and truly of class j; sums to 1.

    Each row of the confident joint is scaled to the count of its given class; a class of which no row
    is confident is taken as given.
    """
    counts = confident_joint(p, given).astype(np.float64)
    total = np.bincount(given, minlength=p.shape[1]).astype(np.float64)
    empty = counts.sum(1) == 0
    counts[empty, empty.nonzero()[0]] = 1.0
    scaled = counts / counts.sum(1, keepdims=True) * total[:, None]
    calibrated: Floats = scaled / scaled.sum()
    return calibrated


def issues(p: Floats, given: Codes, *, method: Method = "prune_by_noise_rate") -> Flags:
    """``[rows]`` which labels are likely wrong.

    Args:
        method: ``prune_by_noise_rate``: for each pair of classes i, j the ``n Q_ij`` rows given i with the
            largest ``p_j - p_i``; ``prune_by_class``: for each class the ``n sum_j Q_ij`` rows of least
            ``p_i``; ``both``: those that both name; ``confident_learning``: off the diagonal of the
            confident joint; ``predicted_neq_given``: another class is more probable.

    Raises:
        ValueError: another method, or probabilities that do not fit the labels.
    """
    check(p, given)
    if method == "predicted_neq_given":
        return _disagrees(p, given)
    if method == "confident_learning":
        found = confident_classes(p, given)
        unlike: Flags = (found >= 0) & (found != given)
        return unlike
    if method == "prune_by_noise_rate":
        return _by_noise_rate(p, given)
    if method == "prune_by_class":
        return _by_class(p, given)
    if method == "both":
        return _by_noise_rate(p, given) & _by_class(p, given)
    raise ValueError(f"method is one of {', '.join(METHODS)}, not {method!r}")


def quality(p: Floats, given: Codes, *, score: Score = "self_confidence") -> Floats:
    """``[rows]`` how well each label agrees with the probabilities; the lowest are most suspicious.

    Args:
        score: ``self_confidence``: probability of the given class, 0 to 1; ``margin``: that minus the
            largest other, -1 to 1; ``confidence_weighted_entropy``: ``log(1 + r) / r`` of the
            normalised entropy over the first, r: 0 to 1.

    Raises:
        ValueError: another score, or probabilities that do not fit the labels.
    """
    check(p, given)
    own: Floats = p[np.arange(len(p)), given]
    if score == "self_confidence":
        return own
    if score == "margin":
        margin: Floats = own - _others(p, given).max(1)
        return margin
    if score == "confidence_weighted_entropy":
        entropy = -(p * np.log(np.clip(p, 1e-12, None))).sum(1) / np.log(p.shape[1])
        ratio = np.clip(entropy / np.clip(own, 1e-12, None), 1e-6, None)
        weighted: Floats = np.log1p(ratio) / ratio  # falls with the ratio, from 1 towards 0
        return weighted
    raise ValueError(f"score is one of {', '.join(SCORES)}, not {score!r}")


def suggested(p: Floats, given: Codes) -> Codes:
    """``[rows]`` the most probable class other than the given one."""
    found: Codes = _others(p, given).argmax(1).astype(np.int64)
    return found


def check(p: Floats, given: Codes) -> None:
    """Refuse what are no probabilities of these rows."""
    if p.ndim != 2 or len(p) != len(given) or not len(p):
        raise ValueError(
            f"p must be [rows, classes] with one label a row, got {list(p.shape)} and {len(given)}"
        )
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(1) - 1).max() > 1e-4:
        raise ValueError("p must be probabilities: not negative, each row summing to 1")
    if given.min() < 0 or given.max() >= p.shape[1]:
        raise ValueError(f"class numbers must lie in 0 to {p.shape[1] - 1}")


def _by_noise_rate(p: Floats, given: Codes) -> Flags:
    counts = np.rint(joint(p, given) * len(p)).astype(np.int64)
    flagged = np.zeros(len(p), dtype=bool)
    for i in _all(p):
        rows = np.flatnonzero(given == i)
        for j in _all(p):
            if i == j or not counts[i, j]:
                continue
            margin = p[rows, j] - p[rows, i]
            worst = rows[np.argsort(-margin, kind="stable")[: counts[i, j]]]
            flagged[worst] = True
    # Where the given class is the most probable one there is nothing to correct.
    return flagged & _disagrees(p, given)


def _by_class(p: Floats, given: Codes) -> Flags:
    shares = joint(p, given)
    flagged = np.zeros(len(p), dtype=bool)
    for i in _all(p):
        rows = np.flatnonzero(given == i)
        wrong = int(np.rint((shares[i].sum() - shares[i, i]) * len(p)))
        flagged[rows[np.argsort(p[rows, i], kind="stable")[:wrong]]] = True
    return flagged & _disagrees(p, given)


def _disagrees(p: Floats, given: Codes) -> Flags:
    unlike: Flags = p[np.arange(len(p)), given] < p.max(1) - _TIE
    return unlike


def _others(p: Floats, given: Codes) -> Floats:
    others = p.copy()
    others[np.arange(len(p)), given] = -np.inf
    return others


def _all(p: Floats) -> range:
    return range(p.shape[1])
