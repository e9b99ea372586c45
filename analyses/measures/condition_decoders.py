"""Linear decoders of dichotomies that see conditions only through their means and the common noise.

Ridge regression of the two signs, every condition with the same weight and the same noise covariance
(pooled within conditions, Ledoit-Wolf), is ridge on the condition means in the space where that noise
is white. So, once per fold, everything is in two small matrices: inner products of the whitened means
with each other, and with the rows that are tested. With two conditions it is Fisher's discriminant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.measures.dichotomies import Signs

TIE = 1e-9
"""Scores this small, relative to the largest possible, are undecided and count one half."""
_CHUNK = 1 << 24


@dataclass(frozen=True)
class FoldGrams:
    """What decoders of one fold are made of."""

    means: Tensor
    """``[conditions, conditions]`` products of the whitened means of the training rows."""
    tested: Tensor
    """``[rows, conditions]`` products of the whitened rows that are tested with those means."""
    rows: NDArray[np.int64]
    """``[rows]`` which rows are tested."""


def fold_grams(
    x: Tensor,
    codes: NDArray[np.int64],
    folds: NDArray[np.int64],
    count: int,
    shuffles: Sequence[NDArray[np.int64]] = (),
) -> list[list[FoldGrams]]:
    """Means and noise of the other folds, and the rows of each fold in their terms.

    Args:
        x: ``[rows, width]``
        codes: ``[rows]`` condition of each row; every one is in the training rows of every fold.
        folds: ``[rows]``
        count: How many conditions.
        shuffles: Other codes of the same rows, whose means are taken in the same white space.

    Returns:
        For `codes` and each of `shuffles`, one for each fold.
    """
    rows = x.double().cpu()
    found: list[list[FoldGrams]] = [[] for _ in range(1 + len(shuffles))]
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        white = _white(rows, codes, train, count)
        for own, these in zip(found, (codes, *shuffles), strict=True):
            own.append(_grams(white, these, train, test, count))
    return found


def hit_sums(
    grams: Sequence[FoldGrams],
    codes: NDArray[np.int64],
    blocks: NDArray[np.int64],
    train: Signs,
    test: Signs,
) -> Tensor:
    """Right answers ``[blocks, conditions, sets]`` on rows that no decoder was trained on.

    Args:
        codes: ``[rows]``
        blocks: ``[rows]`` the jackknife block of each row.
        train: Which conditions each decoder learns, and as what.
        test: What each condition should be called; 0 counts nowhere.
    """
    conditions, sets = train.shape[1], len(train)
    cells = (int(blocks.max()) + 1) * conditions
    found = torch.zeros(cells, sets, dtype=torch.float64)
    wanted = torch.from_numpy(test).double()
    for one in grams:
        where = torch.from_numpy(blocks[one.rows] * conditions + codes[one.rows])
        truth = torch.from_numpy(codes[one.rows])
        step = max(1, _CHUNK // max(len(one.rows), conditions**2))
        for first in range(0, sets, step):
            part = slice(first, first + step)
            scores = _scores(one, train[part])
            signed = scores * wanted[part].T[truth]
            hits = (signed > 0).double()
            hits[scores == 0] = 0.5
            found[:, part].index_add_(0, where, hits * (wanted[part].T[truth] != 0))
    return found.view(-1, conditions, sets)


def accuracies(hits: Tensor, counts: Tensor, test: Signs) -> Tensor:
    """Mean over the tested conditions of the share of right rows, ``[..., sets]``.

    Args:
        hits: ``[..., conditions, sets]`` sums over rows.
        counts: ``[..., conditions]`` rows.
    """
    shares = hits / counts[..., None]
    tested = torch.from_numpy(test != 0).T
    rights = torch.where(tested, shares, 0.0).sum(-2)
    return torch.div(rights, tested.sum(0))


def _white(x: Tensor, codes: NDArray[np.int64], train: NDArray[np.int64], count: int) -> Tensor:
    """All rows in the space where the noise within the conditions of the training rows is white."""
    from sklearn.covariance import ledoit_wolf

    label, known = torch.from_numpy(codes[train]), x[train]
    means = _means(known, label, count)
    middle = means.mean(0)
    noise = torch.from_numpy(ledoit_wolf((known - means[label]).numpy(), assume_centered=True)[0])
    # Exact points without noise still need a scale: a millionth of their variance.
    noise.diagonal().add_(1e-6 * float((known - middle).square().mean()) or 1.0)
    factor = torch.linalg.cholesky(noise)
    white: Tensor = torch.linalg.solve_triangular(factor, (x - middle).T, upper=False)
    return white.T


def _grams(
    white: Tensor,
    codes: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    count: int,
) -> FoldGrams:
    means = _means(white[train], torch.from_numpy(codes[train]), count)
    return FoldGrams(means @ means.T, white[test] @ means.T, test)


def _means(x: Tensor, codes: Tensor, count: int) -> Tensor:
    sums = x.new_zeros(count, x.shape[1]).index_add_(0, codes, x)
    return sums / torch.bincount(codes, minlength=count).clamp_min(1)[:, None]


def _scores(one: FoldGrams, train: Signs) -> Tensor:
    """Decision values ``[rows, sets]``; undecided ones are exactly 0."""
    weights, offsets = _decoders(one.means, torch.from_numpy(train).double())
    scores = one.tested @ weights - offsets
    largest = one.tested.abs().max() * weights.abs().sum(0)
    return torch.where(scores.abs() > TIE * largest, scores, 0.0)


def _decoders(means: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Weights on the conditions ``[conditions, sets]``, and offsets ``[sets]``."""
    same = bool((signs != 0).all())
    used = (signs[:1] if same else signs).ne(0).double()
    n = used.sum(1)
    share = used / n[:, None]
    middle = share @ means
    centred = means - middle[:, :, None] - middle[:, None, :]
    centred = centred + (middle * share).sum(1)[:, None, None]
    system = centred * used[:, :, None] * used[:, None, :]
    system = system + torch.diag_embed(n[:, None].expand_as(used))
    aims = signs - (signs.sum(1) / n)[:, None] * used
    if same:  # one system for all labels
        factor = torch.linalg.cholesky(system[0])
        weights = torch.cholesky_solve(aims.T, factor)
    else:
        weights = torch.linalg.solve(system, aims[:, :, None])[:, :, 0].T
    # Midway between the means of the two sides, whatever their sizes.
    sides = [(signs * side > 0).double() for side in (1, -1)]
    ends = [((half / half.sum(1, keepdim=True)) @ means * weights.T).sum(1) for half in sides]
    return weights, (ends[0] + ends[1]) / 2
