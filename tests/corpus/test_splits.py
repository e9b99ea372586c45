"""Folds: groups stay whole, classes are in every fold, and what cannot be is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.corpus.splits import group_folds, rare_classes

CHANCE = np.random.default_rng(0)
GROUPS = CHANCE.integers(0, 60, 900)
CLASSES = np.array(["NOUN", "VERB", "ADJ"])[CHANCE.choice(3, 900, p=[0.6, 0.3, 0.1])]


def straddling(folds: np.ndarray, groups: np.ndarray) -> set[Any]:
    return {g for g in np.unique(groups).tolist() if len(set(folds[groups == g])) > 1}


@pytest.mark.parametrize("labels", [CLASSES, CHANCE.normal(size=900), None])
def test_groups_stay_whole_and_every_fold_is_filled(labels: Any) -> None:
    folds = group_folds(labels, GROUPS, folds=5)
    assert folds.shape == (900,)
    assert straddling(folds, GROUPS) == set()
    sizes = np.bincount(folds, minlength=5)
    assert sizes.min() > 100


def test_every_fold_has_its_share_of_every_class() -> None:
    folds = group_folds(CLASSES, GROUPS, folds=5)
    for kind in np.unique(CLASSES):
        shares = [np.mean(CLASSES[folds == fold] == kind) for fold in range(5)]
        assert max(shares) - min(shares) < 0.06, kind


def test_rows_that_are_their_own_groups_are_stratified_to_the_row() -> None:
    folds = group_folds(CLASSES, np.arange(900), folds=5)
    for kind in np.unique(CLASSES):
        counts = np.bincount(folds[kind == CLASSES], minlength=5)
        assert counts.max() - counts.min() <= 1, kind


@pytest.mark.parametrize("labels", [CLASSES, CHANCE.normal(size=900)])
def test_the_seed_decides(labels: Any) -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first, again, other = (group_folds(labels, GROUPS, folds=3, seed=s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_names_of_groups_and_classes_do_not_matter() -> None:
    named = np.array([f"group {100 - g}" for g in GROUPS])
    codes = np.unique(CLASSES, return_inverse=True)[1]
    folds = group_folds(CLASSES, GROUPS, folds=4)
    assert (group_folds(codes, named, folds=4) == folds).all()
    assert (group_folds(list(CLASSES), list(named), folds=4) == folds).all()


def test_frames_columns_are_taken() -> None:
    import pandas as pd

    frame = pd.DataFrame({"upos": CLASSES, "group": GROUPS.astype(str)})
    ours = group_folds(frame["upos"], frame["group"], folds=4)
    assert (ours == group_folds(CLASSES, GROUPS.astype(str), folds=4)).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_group_ever_straddles(data: st.DataObject) -> None:
    groups = np.array(data.draw(st.lists(st.integers(0, 9), min_size=10, max_size=60)))
    folds = data.draw(st.integers(2, 4))
    labels: Any = np.array(data.draw(st.lists(st.sampled_from("ab"), min_size=len(groups), max_size=len(groups))))  # fmt: skip
    if data.draw(st.booleans()):
        labels = labels.view(np.int32).astype(float)
    try:
        found = group_folds(labels, groups, folds=folds, seed=data.draw(st.integers(0, 3)))
    except ValueError:
        few = len(np.unique(groups)) < folds or len(np.unique(labels)) < 2
        rare = labels.dtype.kind != "f" and any(
            len(np.unique(groups[labels == kind])) < folds for kind in np.unique(labels)
        )
        assert few or rare
        return
    assert straddling(found, groups) == set()
    assert set(found) <= set(range(folds))


def test_classes_too_rare_are_listed_with_their_groups() -> None:
    labels = ["a"] * 6 + ["b"] * 4
    groups = [0, 1, 2, 3, 4, 5, 0, 0, 1, 1]
    assert rare_classes(labels, groups, folds=3) == {"b": 2}
    assert rare_classes(labels, groups, folds=2) == {}


@pytest.mark.parametrize(
    ("labels", "groups", "folds", "message"),
    [
        ("abab", [0, 0, 1, 1], 3, "3 folds need at least 3 groups, .* there are 2: use fewer"),
        (
            "aaaa",
            [0, 1, 2, 3],
            2,
            "every row has the label 'a'; a probe needs at least two classes",
        ),
        ("aaab", [0, 1, 2, 3], 2, "class 'b' has 1 rows, fewer than 2 folds; leave that class out"),
        ("aabb", [0, 1, 2, 2], 2, "class 'b' has rows in only 1 groups, fewer than 2 folds"),
        ("abab", [0, 1, 2, 3], 1, "folds must be at least 2, got 1"),
        ("ab", [0, 1, 2], 2, "2 labels, but groups of 3 rows"),
    ],
)
def test_what_cannot_be_split(labels: str, groups: list[int], folds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_folds(list(labels), groups, folds=folds)


@pytest.mark.parametrize("labels", [["a", None, "b"], [1.0, float("nan"), 2.0]])
def test_missing_labels_are_counted(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match="1 of 3 labels are missing; leave those rows out"):
        group_folds(labels, [0, 1, 2], folds=2)
