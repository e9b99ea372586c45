"""The data section of a report: true counts, readable without the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from layerscope.finding import Finding
from layerscope.store import Store, StoreFinding


def store_of(folder: Path, frame: pd.DataFrame) -> Store:
    store = Store.create(folder, {}, sites={"a": 3}, dtype=torch.float32, about={"model": "m"})
    store.write(0, {"a": torch.zeros(len(frame), 3)}, frame)
    store.finish(1)
    return store


def test_counts_and_shares_are_those_of_the_rows(known: Any) -> None:
    table = known.store.finding().table
    upos = table[table["label"] == "upos"].set_index("value")
    want = known.frame["upos"].fillna("(none)").value_counts()
    assert upos["count"].to_dict() == want.to_dict()
    assert upos["share"].to_dict() == pytest.approx((want / 13).to_dict())
    assert upos.index[-1] == "(none)"
    for _, part in table.groupby("label"):
        assert part["count"].sum() == 13
        assert part["share"].sum() == pytest.approx(1)


def test_the_answer_has_the_numbers(known: Any) -> None:
    answer = known.store.finding().answer()
    assert answer.startswith(
        "13 rows from 5 texts in 5 groups; 3 sites of width 6 and 10 in float32"
    )
    assert "2 labels. Most common upos: NOUN (46.2%)." in answer


def test_it_survives_saving_without_the_store(known: Any, tmp_path: Path) -> None:
    finding = known.store.finding()
    finding.save(tmp_path / "f")
    loaded = Finding.load(tmp_path / "f")
    assert isinstance(loaded, StoreFinding)
    assert loaded.answer() == finding.answer()
    assert loaded.figure() == finding.figure()
    assert loaded.notes == ("a note",)
    assert loaded.provenance.store_key == known.store.key


def test_the_figure_draws_every_line_of_the_table(known: Any) -> None:
    finding = known.store.finding()
    drawn = {
        (label, value): share
        for trace in finding.figure().data
        for label, share, (value, _) in zip(trace.y, trace.x, trace.customdata, strict=True)
    }
    table = finding.table
    assert drawn == {(r.label, r.value): r.share for r in table.itertuples()}


def test_rare_values_and_further_labels_are_summed_up(tmp_path: Path) -> None:
    lemmas = [f"l{i}" for i in range(50) for _ in range(50 - i)]
    labels = {f"label{i}": ["x"] * len(lemmas) for i in range(14)}
    finding = store_of(tmp_path, pd.DataFrame({"text": 0, "lemma": lemmas, **labels})).finding()
    lemma = finding.table[finding.table["label"] == "lemma"]
    assert lemma["value"].tolist()[:2] == ["l0", "l1"]
    assert len(lemma) == 21
    assert lemma["value"].iloc[-1] == "(30 other values)"
    assert lemma["count"].iloc[-1] == sum(range(1, 31))
    assert finding.table["label"].nunique() == 12
    assert finding.notes == ("3 more labels not shown: label11, label12, label13",)


def test_numbers_with_many_values_are_binned_in_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": 0, "surprise": [i / 10 for i in range(100)], "odd": [0, 1] * 50})
    table = store_of(tmp_path, frame).finding().table
    binned = table[table["label"] == "surprise"]
    assert binned["count"].tolist() == [10] * 10
    assert binned["value"].iloc[0] == "0 to 0.99"
    assert table[table["label"] == "odd"]["value"].tolist() == ["0", "1"]


def test_a_store_without_labels_or_rows(tmp_path: Path, make: Callable[..., Any]) -> None:
    plain = store_of(tmp_path / "p", pd.DataFrame({"sample": range(3), "group": list("aab")}))
    finding = plain.finding()
    assert finding.answer().startswith("3 rows from 3 samples in 2 groups; 1 site of width 3")
    assert finding.answer().endswith("The rows carry no labels.")
    assert len(finding.figure().data) == 0
    assert make((), name="e").store.finding().answer().startswith("0 rows from 0 texts in 0 groups")


def test_markup_in_values_is_shown_not_obeyed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": 0, "tag": ["<b>"] * 3})
    figure = store_of(tmp_path, frame).finding().figure()
    assert figure.data[0].text[0] == "&lt;b&gt;"
