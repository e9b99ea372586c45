"""Which label is meant, and whether it holds classes or numbers."""

from __future__ import annotations

import pytest
import torch

from layerscope.probes.reading.labels import class_codes, label_of
from layerscope.probes.reading.rows import plan

X = {"embed": torch.zeros(60, 2)}
GROUPS = [f"g{i // 3}" for i in range(60)]
AB = ["a", "b", "b"] * 20


def test_the_only_label_or_upos_is_meant(make_store) -> None:
    assert label_of(make_store(X, group=GROUPS, word=AB, kind=AB), None) == "kind"
    assert label_of(make_store(X, group=GROUPS, xpos=AB, upos=AB), None) == "upos"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 30, "class"),
        ([True, False] * 30, "class"),
        ([0, 1, 2] * 20, "class"),
        ([0.0, 1.0] * 30, "class"),
        (list(range(60)), "number"),
        ([0.5, 1.5, 2.0] * 20, "number"),
    ],
)
def test_the_values_decide_the_task(make_store, values, task) -> None:
    assert plan(make_store(X, group=GROUPS, kind=values)).task == task


def test_labels_outside_a_store() -> None:
    assert class_codes(["b", "a", "b"])[2] == ("a", "b")
    with pytest.raises(ValueError, match="1 labels are missing"):
        class_codes(["b", None])
