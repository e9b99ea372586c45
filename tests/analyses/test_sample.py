"""The same rows at every site, with their classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.analyses.material.sample import labelled_sample, sample


@pytest.fixture
def store(make_store):  # type: ignore[no-untyped-def]
    x = torch.arange(100.0)[:, None].repeat(1, 3)
    kind = ["a"] * 60 + ["b"] * 38 + ["c", "d"]
    return make_store({"x": x, "y": -x}, group=np.arange(100) // 10, kind=kind)


def test_rows_are_the_same_at_every_site_and_in_the_order_of_the_store(store) -> None:
    drawn = sample(store, max_rows=30)
    assert len(drawn) == 30
    assert (np.diff(drawn.index) > 0).all()
    x, y = (drawn.read(store, site, device="cpu") for site in ("x", "y"))
    assert torch.equal(x, -y)
    assert x[:, 0].tolist() == drawn.index.tolist()
    owners = drawn.index // 10
    assert all(len(set(owners[drawn.groups == g])) == 1 for g in set(drawn.groups))
    assert "30 of 100 rows, drawn at random" in drawn.notes[0]


def test_all_rows_where_there_are_few_and_another_draw_for_another_seed(store) -> None:
    assert sample(store).index.tolist() == list(range(100))
    assert sample(store).notes == ()
    draws = [sample(store, max_rows=30, seed=seed).index.tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_classes_with_too_few_rows_are_left_out_and_named(store) -> None:
    drawn = labelled_sample(store, "kind")
    assert drawn.classes == ("a", "b")
    assert drawn.codes is not None
    assert drawn.codes.tolist() == [0] * 60 + [1] * 38
    assert any("kind 'c' (1), 'd' (1): fewer than 2 rows, left out" in n for n in drawn.notes)


def test_balanced_classes(store) -> None:
    drawn = labelled_sample(store, "kind", per_class=20)
    assert drawn.codes is not None
    assert np.bincount(drawn.codes).tolist() == [20, 20]
    assert (drawn.index[drawn.codes == 0] < 60).all()
    assert any("at most 20 rows of each class: 40 of 98" in note for note in drawn.notes)


def test_other_classes_than_a_column(store) -> None:
    other = pd.Series(["odd" if i % 2 else "even" for i in range(100)])
    other[:50] = None
    drawn = labelled_sample(store, "next kind", values=other)
    assert drawn.label == "next kind"
    assert drawn.classes == ("even", "odd")
    assert drawn.codes is not None
    assert (drawn.codes == drawn.index % 2).all()
    assert drawn.index.min() == 50


def test_a_class_that_thinning_leaves_too_small_is_left_out(make_store) -> None:
    kind = ["a"] * 500 + ["b"] * 497 + ["c"] * 3
    store = make_store({"x": torch.zeros(1000, 1)}, group=range(1000), kind=kind)
    drawn = labelled_sample(store, "kind", max_rows=40, seed=3)
    assert drawn.codes is not None
    assert np.bincount(drawn.codes).min() >= 2
    assert len(drawn.classes) == drawn.codes.max() + 1


def test_words_cut_into_pieces_count_once(make_store) -> None:
    store = make_store(
        {"x": torch.arange(8.0)[:, None]},
        text=[0, 0, 0, 0, 1, 1, 1, 1],
        word_index=[0, 0, 1, 1, 0, 0, 1, 1],
        group=[0] * 4 + [1] * 4,
        kind=list("aabbaabb"),
    )
    assert labelled_sample(store, "kind").index.tolist() == [1, 3, 5, 7]
    assert labelled_sample(store, "kind", pieces="first").index.tolist() == [0, 2, 4, 6]


def test_rows_without_groups_are_their_own(make_store) -> None:
    store = make_store({"x": torch.zeros(4, 1)}, kind=list("abab"))
    assert sample(store).groups.tolist() == [0, 1, 2, 3]


def test_what_cannot_be_sampled(store, make_store) -> None:
    with pytest.raises(LookupError, match="no label 'knd'"):
        labelled_sample(store, "knd")
    single = make_store({"x": torch.zeros(5, 1)}, group=range(5), kind=["a"] * 4 + ["b"])
    with pytest.raises(ValueError, match="fewer than two classes of kind have at least 2 rows"):
        labelled_sample(single, "kind")
    with pytest.raises(ValueError, match="has no rows"):
        sample(make_store({"x": torch.zeros(0, 1)}))
    bad = torch.zeros(4, 2)
    bad[2, 1] = torch.nan
    broken = make_store({"x": bad}, group=range(4), kind=list("abab"))
    with pytest.raises(ValueError, match="NaN or infinite, the first at row 2"):
        sample(broken).read(broken, "x")


def test_groups_that_only_some_rows_have_are_refused(make_store) -> None:
    frame = {"group": ["a", "a", None, "b", "b", "c"], "kind": list("xyxyxy")}
    part = make_store({"x": torch.zeros(6, 1)}, **frame)
    for draw in (sample, lambda store: labelled_sample(store, "kind")):
        with pytest.raises(
            ValueError, match=r"1 of 6 rows have no group, the first is row 2; give"
        ):
            draw(part)
    none = make_store({"x": torch.zeros(6, 1)}, group=[None] * 6, kind=list("xyxyxy"))
    found = labelled_sample(none, "kind")
    assert len(set(found.groups)) == 6
    assert any("no group: each counts as its own" in note for note in found.notes)
