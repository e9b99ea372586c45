"""Which rows are probed: labels, words, groups, classes, and what is said about them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.probes.reading.rows import plan

X = {"embed": torch.zeros(60, 2)}
GROUPS = [f"g{i // 3}" for i in range(60)]
AB = ["a", "b", "b"] * 20


def test_rows_are_dealt_by_group_and_sorted_by_fold(make_store) -> None:
    made = plan(make_store(X, group=GROUPS, kind=AB), folds=4)
    assert (made.label, made.task, made.classes, made.folds) == ("kind", "class", ("a", "b"), 4)
    assert sorted(made.index) == list(range(60))
    fold = np.repeat(range(4), np.diff(made.bounds))
    names = np.array(GROUPS)[made.index]
    assert all(len(set(fold[names == name])) == 1 for name in set(GROUPS))
    assert [made.classes[code] for code in made.values] == [AB[i] for i in made.index]
    same = pd.Series(made.groups).groupby(names).nunique()
    assert (same == 1).all()
    assert len(set(made.groups)) == 20


def test_a_label_that_is_not_there(make_store) -> None:
    with pytest.raises(LookupError, match=r"no label 'uppos' here; did you mean 'upos'\?"):
        plan(make_store(X, group=GROUPS, upos=AB), "uppos")
    with pytest.raises(LookupError, match=r"which label\? Pass label=; there are: 'x1', 'x2'"):
        plan(make_store(X, group=GROUPS, x1=AB, x2=AB))
    with pytest.raises(LookupError, match="no label to read, these rows have no labels"):
        plan(make_store(X, group=GROUPS, word=AB))


def test_rows_without_the_label_are_left_out_and_counted(make_store) -> None:
    some = [None, *AB[1:]]
    made = plan(make_store(X, group=GROUPS, kind=some))
    assert 0 not in made.index
    assert "1 of 60 rows have no kind: left out" in made.notes
    with pytest.raises(ValueError, match="label 'kind' is missing on all 60 rows"):
        plan(make_store(X, group=GROUPS, kind=pd.array([None] * 60, dtype="str")))


def test_one_class_is_refused(make_store) -> None:
    with pytest.raises(ValueError, match="every row has kind 'a': a probe needs at least two"):
        plan(make_store(X, group=GROUPS, kind=["a"] * 60))


def test_few_rare_rows_are_left_out_and_many_are_refused(make_store) -> None:
    few = [*AB[:57], "rare", "rare", "b"]
    made = plan(make_store(X, group=GROUPS, kind=few))
    assert made.classes == ("a", "b")
    assert len(made.index) == 58
    assert any("kind 'rare' (1): in fewer groups than the 5 folds" in note for note in made.notes)
    many = [*AB[:51], *["rare"] * 9]
    with pytest.raises(ValueError, match=r"'rare' \(3\).*9 of 60 rows have these classes"):
        plan(make_store(X, group=GROUPS, kind=many))


def test_too_few_groups_or_folds(make_store) -> None:
    store = make_store(X, group=["one", "two", "three", "four"] * 15, kind=AB)
    with pytest.raises(
        ValueError, match=r"5 folds need at least 5 groups.* there are 4: use fewer folds"
    ):
        plan(store)
    with pytest.raises(ValueError, match=r"folds must be at least 3 .* got 2"):
        plan(store, folds=2)


def test_rows_without_groups_are_refused(make_store) -> None:
    with pytest.raises(ValueError, match="rows without a group cannot be split safely"):
        plan(make_store(X, kind=AB))


def test_words_are_read_at_their_last_piece(make_store) -> None:
    texts = np.repeat(range(20), 3)
    words = [0, 0, 1] * 20  # the first word of each text has two pieces
    store = make_store(X, text=texts, group=GROUPS, word_index=words, kind=["a", "a", "b"] * 20)
    made = plan(store)
    assert set(made.index % 3) == {1, 2}
    assert "a word cut into pieces is read at its last piece: 40 words of 60 tokens" in made.notes
    assert set(plan(store, pieces="first").index % 3) == {0, 2}
    assert len(plan(store, pieces="all").index) == 60
    with pytest.raises(ValueError, match="pieces must be 'last', 'first' or 'all', got 'middle'"):
        plan(store, pieces="middle")


def test_a_label_of_whole_texts_keeps_every_token(make_store) -> None:
    texts = np.repeat(range(20), 3)
    mood = np.repeat(["good", "bad"] * 10, 3)
    store = make_store(X, text=texts, group=GROUPS, word_index=[0, 0, 1] * 20, mood=mood)
    assert len(plan(store).index) == 60


def test_word_types_come_from_words_then_tokens(make_store) -> None:
    texts = np.repeat(range(20), 3)
    word = ["The", "the", "dog"] * 20
    made = plan(make_store(X, text=texts, group=GROUPS, word=word, token="t", kind=AB))
    assert made.types is not None
    assert len(set(made.types)) == 3
    made = plan(make_store(X, text=texts, group=GROUPS, token=word, kind=AB))
    assert made.types is not None
    # One row a text: a type would be a text.
    assert plan(make_store(X, group=GROUPS, token=word, kind=AB)).types is None


def test_many_rows_are_capped_by_whole_groups(make_store) -> None:
    x = {"embed": torch.zeros(3000, 1)}
    store = make_store(x, group=np.repeat(np.arange(300), 10), kind=["a", "b"] * 1500)
    made = plan(store, max_rows=1000)
    assert len(made.index) == 1000
    assert len(set(made.groups)) == 100
    assert any("1,000 of 3,000 rows, of 100 of 300 groups drawn at random" in n for n in made.notes)
    assert sorted(plan(store, max_rows=1000, seed=1).index) != sorted(made.index)


def test_no_group_may_fill_the_cap(make_store) -> None:
    x = {"embed": torch.zeros(3000, 1)}
    groups = ["book"] * 2700 + [f"note{i // 3}" for i in range(300)]
    made = plan(make_store(x, group=groups, kind=["a", "b"] * 1500), max_rows=400)
    sizes = np.bincount(made.groups)
    assert sizes.max() == 20
    assert len(sizes) > 90


def test_the_user_decides_over_the_values(make_store) -> None:
    depth = [0, 1, 2] * 20
    store = make_store(X, group=GROUPS, depth=depth)
    assert plan(store, task="number").values.dtype == np.float64
    assert any("task='number' predicts it as a number" in note for note in plan(store).notes)
    with pytest.raises(ValueError, match="label 'kind' holds 'a', which is no number"):
        plan(make_store(X, group=GROUPS, kind=AB), task="number")
    with pytest.raises(ValueError, match="task must be 'class' or 'number', got 'rank'"):
        plan(store, task="rank")


def test_numbers_that_cannot_be_predicted(make_store) -> None:
    with pytest.raises(ValueError, match="every row has size 3: there is nothing to predict"):
        plan(make_store(X, group=GROUPS, size=[3.0] * 60), task="number")
    with pytest.raises(ValueError, match="label 'size' has infinite values"):
        plan(make_store(X, group=GROUPS, size=[float("inf"), *range(59)]))
