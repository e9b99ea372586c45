"""The control task, and what remembering word types could reach."""

from __future__ import annotations

import numpy as np

from layerscope.probes.scoring.controls import (
    control_labels,
    majority_hits,
    seen_in_training,
    training_means,
)


def test_every_type_has_one_label_drawn_from_the_labels() -> None:
    types = np.random.default_rng(0).integers(0, 5000, 40_000)
    labels = (np.arange(40_000) % 10 < 7).astype(np.int64)  # 70 % ones
    control = control_labels(types, labels, seed=0)
    firsts = dict(zip(types[::-1], control[::-1], strict=True))
    assert all(control == np.array([firsts[kind] for kind in types]))
    assert abs(np.mean(list(firsts.values())) - 0.7) < 0.03
    assert (control == control_labels(types, labels, seed=0)).all()
    assert (control != control_labels(types, labels, seed=1)).any()


def test_types_seen_in_another_fold() -> None:
    types = np.array([0, 1, 1, 0, 2, 3, 2])
    seen = seen_in_training(types, (0, 3, 5, 7))
    assert seen.tolist() == [True, False, False, True, True, False, True]


def test_majority_is_that_of_the_other_folds() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2])
    # Without the first fold 1 is commonest, without the second 0.
    assert majority_hits(codes, (0, 3, 6), 3).tolist() == [False] * 6
    assert majority_hits(codes, (0, 2, 4, 6), 3).tolist() == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_means_are_those_of_the_other_folds() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0])
    np.testing.assert_allclose(training_means(values, (0, 2, 3, 4)), [6.5, 6.5, 13 / 3, 2.0])
