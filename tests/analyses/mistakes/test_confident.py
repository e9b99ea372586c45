"""Confident learning: exact where probabilities are perfect, silent where they say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from layerscope.analyses.mistakes.confident import (
    METHODS,
    confident_classes,
    confident_joint,
    issues,
    joint,
    quality,
    suggested,
    thresholds,
)

FLIPS = np.array([[0.9, 0.1, 0.0], [0.0, 0.75, 0.25], [0.2, 0.0, 0.8]])
"""Share of rows truly of class i (row) that are given class j (column)."""


def perfect(rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot probabilities of the true class, given labels with exact shares of flips, the truth."""
    truth = np.repeat(np.arange(3), rows)
    given = truth.copy()
    for i in range(3):
        start = i * rows
        for j in range(3):
            count = round(FLIPS[i, j] * rows)
            given[start : start + count] = j
            start += count
    return np.eye(3)[truth], given, truth


def test_perfect_probabilities_give_the_joint_exactly() -> None:
    p, given, truth = perfect()
    expected = np.zeros((3, 3))
    np.add.at(expected, (given, truth), 1 / len(truth))
    np.testing.assert_allclose(joint(p, given), expected, atol=1e-9)
    assert joint(p, given).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_perfect_probabilities_find_every_flip_and_nothing_else(method: str) -> None:
    p, given, truth = perfect()
    np.testing.assert_array_equal(issues(p, given, method=method), given != truth)  # type: ignore[arg-type]
    wrong = given != truth
    np.testing.assert_array_equal(suggested(p, given)[wrong], truth[wrong])


@pytest.mark.parametrize("method", METHODS)
def test_uniform_probabilities_find_nothing(method: str) -> None:
    given = np.arange(90) % 3
    p = np.full((90, 3), 1 / 3)
    assert not issues(p, given, method=method).any()  # type: ignore[arg-type]
    np.testing.assert_array_equal(confident_classes(p, given), given)
    np.testing.assert_allclose(joint(p, given), np.eye(3) / 3)


def test_thresholds_and_joint_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]])
    given = np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(thresholds(p, given), [(0.9 + 0.6 + 0.2) / 3, (0.7 + 0.2) / 2])
    # Row 1: only class 0 reaches its threshold (.5667); row 2: only class 1 (.45); row 4: class 0.
    np.testing.assert_array_equal(confident_classes(p, given), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(confident_joint(p, given), [[2, 1], [1, 1]])
    np.testing.assert_allclose(joint(p, given), [[2 / 5, 1 / 5], [1 / 5, 1 / 5]])
    np.testing.assert_array_equal(issues(p, given), [False, False, True, False, True])


def test_the_joint_by_a_loop_over_rows() -> None:
    """The definition, row by row and class by class."""
    generator = np.random.default_rng(0)
    p = generator.dirichlet([0.5] * 4, size=300)
    given = np.array([generator.choice(4, p=row) for row in generator.dirichlet([1.0] * 4, 300)])
    limits = [np.mean([p[r, j] for r in range(300) if given[r] == j]) for j in range(4)]
    counts = np.zeros((4, 4))
    for row in range(300):
        likely = [(p[row, j], j) for j in range(4) if p[row, j] >= limits[j]]
        if likely:
            counts[given[row], max(likely)[1]] += 1
    np.testing.assert_array_equal(confident_joint(p, given), counts)
    rows = np.bincount(given, minlength=4)
    expected = counts / counts.sum(1, keepdims=True) * rows[:, None] / 300
    np.testing.assert_allclose(joint(p, given), expected, atol=1e-12)


def test_prune_by_noise_rate_takes_the_widest_margins_of_each_pair() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(600) % 3
    p = 0.8 * np.eye(3)[truth] + 0.2 * generator.dirichlet([1.0] * 3, 600)
    given = truth.copy()
    given[:60] = (truth[:60] + 1) % 3
    flags = issues(p, given)
    assert flags[:60].all()
    assert flags.sum() == 60
    both = issues(p, given, method="both")
    assert (both <= flags).all()


def test_scores_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45]])
    given = np.array([1, 0])
    np.testing.assert_allclose(quality(p, given), [0.2, 0.1])
    np.testing.assert_allclose(quality(p, given, score="margin"), [-0.5, -0.35])
    entropy = -(p * np.log(p)).sum(1) / np.log(3)
    ratio = entropy / np.array([0.2, 0.1])
    np.testing.assert_allclose(
        quality(p, given, score="confidence_weighted_entropy"), np.log1p(ratio) / ratio
    )
    np.testing.assert_array_equal(suggested(p, given), [0, 1])


def test_a_class_without_confident_rows_is_taken_as_given() -> None:
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    given = np.array([0, 0, 0])
    found = joint(p, given)
    assert np.isfinite(found).all()
    assert found[1].sum() == 0


def test_what_is_refused() -> None:
    p = np.full((4, 2), 0.5)
    given = np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="method is one of prune_by_noise_rate"):
        issues(p, given, method="prune")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="score is one of self_confidence"):
        quality(p, given, score="self")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \[4, 2\] and 3"):
        issues(p, given[:3])
    with pytest.raises(ValueError, match="each row summing to 1"):
        issues(p * 0.9, given)
    with pytest.raises(ValueError, match="class numbers must lie in 0 to 1"):
        issues(p, given + 1)
    p[0] = np.nan
    with pytest.raises(ValueError, match="must be probabilities"):
        issues(p, given)
