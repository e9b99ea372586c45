"""Every danger that data can hold is said, with its numbers."""

from __future__ import annotations

import numpy as np
import torch

from layerscope.probes.probe import probe
from layerscope.probes.scoring.cautions import joined


def notes_of(store, **options) -> str:
    return " | ".join(probe(store, progress=False, **options).notes)


def x_of(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


def test_more_features_than_rows_say_what_random_labels_would_do(make_store) -> None:
    columns = {"group": np.arange(60), "kind": ["a", "b"] * 30}
    notes = notes_of(make_store({"x": x_of(60, 40)}, **columns))
    assert "48 training rows for 40 features: below two rows a feature" in notes
    assert "of two classes without error with probability 1, by Cover 1965" in notes
    assert "plain least squares would get 99% of its training rows right" in notes
    assert "features: below" not in notes_of(make_store({"x": x_of(60, 10)}, **columns))


def test_the_widest_site_counts(make_store) -> None:
    columns = {"group": np.arange(60), "kind": ["a", "b"] * 30}
    notes = notes_of(make_store({"a": x_of(60, 5), "b": x_of(60, 90)}, **columns))
    assert "48 training rows for 90 features" in notes


def test_constant_features_are_counted(make_store) -> None:
    x = x_of(60, 6)
    x[:, 1] = 3.0
    x[:, 4] = 0.0
    store = make_store({"fc": x}, group=np.arange(60), kind=["a", "b"] * 30)
    assert "2 of 6 features at fc are constant and get no weight" in notes_of(store)
    clean = make_store({"fc": x_of(60, 6)}, group=np.arange(60), kind=["a", "b"] * 30)
    assert "constant" not in notes_of(clean)


def test_copies_across_folds_are_counted(make_store) -> None:
    x = x_of(100, 20)
    columns = {"kind": ["a", "a", "b", "b"] * 25}
    torn = make_store({"x": x.repeat_interleave(2, 0)[:100]}, group=np.arange(100), **columns)
    note = next(n for n in probe(torn, progress=False).notes if "of another fold, so" in n)
    count = int(note.split(": ")[1].split(" at ")[0])
    assert 50 < count <= 100
    assert count % 2 == 0
    whole = make_store({"x": x.repeat_interleave(2, 0)[:100]}, group=np.arange(100) // 2, **columns)
    assert "of another fold, so" not in notes_of(whole)


def test_a_label_that_its_group_gives_away(make_store) -> None:
    groups = np.arange(120) // 4
    store = make_store({"x": x_of(120, 5)}, group=groups, kind=(groups % 2).tolist())
    assert "kind is the same in all rows of a group: what is sampled are the 30 groups, not the 120 rows" in notes_of(store)  # fmt: skip
    mixed = (groups % 2).tolist()
    mixed[7] = 1 - mixed[7]
    assert "same in all rows" not in notes_of(make_store({"x": x_of(120, 5)}, group=groups, kind=mixed))  # fmt: skip
    single = make_store({"x": x_of(120, 5)}, group=np.arange(120), kind=(groups % 2).tolist())
    assert "same in all rows" not in notes_of(single)


def test_notes_of_several_labels() -> None:
    assert joined({"a": ["x", "y"]}) == ("x", "y")
    assert joined({"a": ["x", "y"], "b": ["y", "z"]}) == ("y", "a: x", "b: z")
