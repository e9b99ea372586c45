"""Ranking traces: areas under curves, and votes counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.probes.contrast.ranking import auc, length_strata, votes


def test_the_area_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    correct = generator.random(300) < 0.3
    score = np.round(generator.normal(size=300) + correct, 1)  # rounded: with ties
    assert auc(score, correct) == pytest.approx(roc_auc_score(correct, score), abs=1e-12)


def test_within_problems_only_their_own_pairs_count() -> None:
    generator = np.random.default_rng(1)
    correct, problem = generator.random(120) < 0.5, generator.integers(0, 20, 120)
    score = generator.normal(size=120) + 10 * problem  # easy problems score high
    right = total = 0.0
    for i in range(120):
        for j in range(120):
            if correct[i] and not correct[j] and problem[i] == problem[j]:
                total += 1
                right += float(score[i] > score[j])
    assert auc(score, correct, problem) == pytest.approx(right / total, abs=1e-12)
    assert np.isnan(auc(score, np.ones(120, bool)))


def test_strata_hold_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 500)
    strata = length_strata(lengths)
    assert np.bincount(strata).tolist() == pytest.approx([100] * 5, abs=3)
    for number in range(4):
        assert lengths[strata == number].max() <= lengths[strata == number + 1].min()


def test_votes_counted_by_hand() -> None:
    #              problem 0: five traces     problem 1
    answers = np.array([7, 7, 7, 8, 8, 3, 4, 4])
    correct = np.array([0, 0, 0, 1, 1, 1, 0, 0], bool)
    problems = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    score = np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.9, 0.5, 0.4])
    best = votes(score, correct, problems, answers, 1)
    assert best.solved.tolist() == [True, True]
    assert best.majority.tolist() == [False, False]
    assert best.single.tolist() == pytest.approx([0.4, 1 / 3])
    assert best.oracle.tolist() == [True, True]
    # Two of 8 and one of 7; then 3 against 4: a tie, and the better trace decides.
    assert votes(score, correct, problems, answers, 3).solved.tolist() == [True, False]
    assert votes(score, correct, problems, answers, 2).solved.tolist() == [True, True]
    assert votes(score, correct, problems, answers, 8).solved.tolist() == [False, False]
