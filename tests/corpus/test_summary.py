"""What a corpus says about itself in a report."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from layerscope.corpus import Samples, Text, Words, read
from layerscope.finding import Finding

TEXTS = [
    Text("a b", "0", "doc", {"mood": "calm"}, Words((0, 2), (1, 3), {"word": ("a", "b"), "upos": ("X", "Y")})),
    Text("a c", "1", "doc", {"mood": "calm"}, Words((0, 2), (1, 3), {"word": ("a", "c"), "upos": ("X", None)})),
    Text("no words", "2", "other", {"mood": "wild"}),
]  # fmt: skip


def test_every_value_is_counted() -> None:
    finding = read(TEXTS, name="three").finding()
    assert finding.table.to_dict("records") == [
        {"label": "word", "unit": "word", "value": "a", "count": 2, "share": 0.5},
        {"label": "word", "unit": "word", "value": "b", "count": 1, "share": 0.25},
        {"label": "word", "unit": "word", "value": "c", "count": 1, "share": 0.25},
        {"label": "upos", "unit": "word", "value": "X", "count": 2, "share": 0.5},
        {"label": "upos", "unit": "word", "value": "Y", "count": 1, "share": 0.25},
        {"label": "upos", "unit": "word", "value": "(none)", "count": 1, "share": 0.25},
        {"label": "mood", "unit": "text", "value": "calm", "count": 2, "share": 2 / 3},
        {"label": "mood", "unit": "text", "value": "wild", "count": 1, "share": 1 / 3},
    ]
    assert finding.answer() == (
        "three: 3 texts, 4 words in 2 groups. 3 labels: word, upos, mood. "
        "Most common word: a (50.0%)."
    )


def test_many_values_share_a_line_and_many_numbers_a_bin() -> None:
    records = [{"text": f"t{i}", "name": f"n{i % 30}", "real": i / 7} for i in range(300)]
    table = read(records).finding().table
    names = table[table["label"] == "name"]
    assert (len(names), names["count"].sum()) == (21, 300)
    assert names["value"].iloc[-1] == "(10 other values)"
    numbers = table[table["label"] == "real"]
    assert (len(numbers), numbers["count"].sum()) == (10, 300)
    assert numbers["value"].iloc[0] == "0 to 4.271"


def test_a_corpus_without_labels_and_one_with_rare_ones_only() -> None:
    assert read(["a", "b"]).finding().answer() == "texts: 2 texts in 2 groups. There are no labels."
    single = read([{"text": f"t{i}", "name": f"n{i}"} for i in range(30)]).finding()
    assert single.answer() == "texts: 30 texts in 30 groups. 1 label: name."


def test_samples_are_summarised_too() -> None:
    mask = torch.tensor([[True, False]] * 4)
    found = Samples(
        torch.zeros(4, 2), labels={"y": ["p", "q", "p", "p"], "tag": torch.ones(4, 2)}, mask=mask
    )
    table = found.finding().table
    assert table[["label", "value", "count"]].values.tolist() == [
        ["y", "p", 3], ["y", "q", 1], ["tag", "1.0", 4]
    ]  # fmt: skip
    assert found.finding().answer().startswith("samples: 4 samples in 4 groups. 2 labels: y, tag.")


def test_the_finding_is_saved_with_its_notes(tmp_path: Path) -> None:
    finding = read(["a", ""]).finding()
    loaded = Finding.load(finding.save(tmp_path / "data"))
    assert loaded.answer() == finding.answer()
    assert loaded.notes == ("1 empty text was left out",)


@pytest.mark.parametrize("source", [TEXTS, ["a", "b"]])
def test_the_figure_draws_each_label_once_and_its_values_side_by_side(source: object) -> None:
    finding = read(source).finding()
    figure = finding.figure()
    drawn = [y for trace in figure.data for y in trace.y]
    assert len(drawn) == len(finding.table)
    assert sum(x for trace in figure.data for x in trace.x) == pytest.approx(
        finding.table["label"].nunique()
    )
