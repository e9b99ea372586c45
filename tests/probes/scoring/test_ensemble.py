"""Several labels at once: one table, shared rows, and each label as it is alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.finding import Finding
from layerscope.probes.finding import ProbeFinding
from layerscope.probes.kinds import Linear
from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.probe import probe
from layerscope.probes.reading.rows import plan
from layerscope.probes.scoring.ensemble import dealt_as, plans, same_rows

ROWS = 480
SITES = ("embed", "blocks.0.resid_post")


@pytest.fixture
def store(make_store):
    """Two classes on all rows, one on half of them, and a number."""
    generator = torch.Generator().manual_seed(0)
    sites = {site: torch.randn(ROWS, 6, generator=generator) for site in SITES}
    x = sites["blocks.0.resid_post"]
    half: list[str | None] = ["up" if v > 0 else "down" for v in x[:, 2].tolist()]
    half[::2] = [None] * (ROWS // 2)
    return make_store(
        sites,
        text=np.arange(ROWS) // 4,
        group=np.arange(ROWS) // 4,
        word=[f"w{i % 30}" for i in range(ROWS)],
        kind=["ab"[int(v > 0)] for v in x[:, 0].tolist()],
        sign=["xyz"[i] for i in torch.bucketize(x[:, 1], torch.tensor([-0.5, 0.5])).tolist()],
        half=half,
        size=x[:, 3].double().numpy(),
    )


LABELS = ["kind", "sign", "half", "size"]


def test_one_table_with_lines_for_each(store) -> None:
    finding = probe(store, label=LABELS, progress=False)
    table = finding.table
    assert list(table["label"]) == [label for label in LABELS for _ in SITES]
    assert list(table["site"]) == list(SITES) * 4
    assert list(table["n"]) == [ROWS] * 4 + [ROWS // 2] * 2 + [ROWS] * 2
    assert list(table["unit"]) == ["accuracy"] * 6 + ["R2"] * 2
    last = table[table["layer"] == 0]
    assert (last["value"] > 0.85).all()
    assert isinstance(finding, ProbeFinding)
    assert finding.best["label"] == "kind"


def test_the_first_label_is_read_as_it_is_alone(store) -> None:
    alone = probe(store, label="kind", progress=False).table
    together = probe(store, label=["kind", "sign"], progress=False).table
    assert together[together["label"] == "kind"].reset_index(drop=True).equals(alone)
    one = probe(store, label=["sign"], progress=False)
    assert one.table.equals(probe(store, label="sign", progress=False).table)
    assert one.provenance.parameters["label"] == "sign"


def test_labels_on_the_same_rows_share_their_folds(store) -> None:
    made = plans(store, LABELS, Asked(folds=5))
    assert same_rows(made) == [[0, 1, 3], [2]]
    for one in made:
        truth = store.rows[one.label].iloc[one.index]
        said = [one.classes[v] for v in one.values] if one.classes else one.values
        assert list(truth) == list(said)
        assert (store.rows["group"].iloc[one.index].to_numpy()[one.groups == 0]).std() == 0


def test_the_rows_are_laid_out_once(store, monkeypatch) -> None:
    from layerscope.probes.scoring import evaluate

    laid = []
    of = evaluate.Design.of
    monkeypatch.setattr(
        evaluate.Design, "of", classmethod(lambda cls, *a, **k: laid.append(1) or of(*a, **k))
    )
    probe(store, label=["kind", "sign", "size"], progress=False)
    assert len(laid) == len(SITES)


def test_folds_that_would_lack_a_class_are_not_shared(store) -> None:
    first = plan(store, "kind")
    second = plan(store, "sign")
    rare = second.values.copy()
    order = np.argsort(second.index)
    rare[:] = 0
    rare[order[:8]] = 1  # two groups only
    from dataclasses import replace

    assert dealt_as(replace(second, values=rare, classes=("x", "y")), first) is None
    assert dealt_as(plan(store, "half"), first) is None
    shared = dealt_as(second, first)
    assert shared is not None
    assert np.array_equal(shared.index, first.index)


def test_answer_notes_and_provenance(store, tmp_path) -> None:
    finding = probe(store, label=["kind", "size", "half"], progress=False)
    answer = finding.answer()
    for label in ("kind", "size", "half"):
        assert f"{label} is read best at blocks.0.resid_post: " in answer
    assert "R² 1.000" in answer
    assert any(note.startswith("half: 240 of 480 rows have no half") for note in finding.notes)
    assert sum("not what the model uses" in note for note in finding.notes) == 1
    assert "label=['kind', 'size', 'half']" in finding.provenance.call
    again = Finding.load(finding.save(tmp_path / "found"))
    assert again.answer() == answer
    assert again.figure().to_json() == finding.figure().to_json()


def test_a_panel_for_each_label(store) -> None:
    figure = probe(store, label=["kind", "size"], progress=False).figure()
    assert [a.text for a in figure.layout.annotations] == ["kind (accuracy)", "size (R²)"]
    named = [t.name for t in figure.data if t.name and t.showlegend]
    assert sorted(named) == sorted(
        ["probe", "control: random label per word", "majority class", "predicting the mean"]
    )
    probes = [t for t in figure.data if t.name == "probe"]
    assert [t.yaxis for t in probes] == ["y", "y2"]


def test_one_site_is_drawn_as_dots(store) -> None:
    finding = probe(store, 0, label=["kind", "size"], progress=False)
    figure = finding.figure()
    dots = next(t for t in figure.data if t.name == "probe")
    assert list(dots.x) == list(finding.table["value"])
    assert list(dots.y) == ["kind (accuracy)", "size (R²)"]


def test_every_kind_takes_several(store) -> None:
    for kind in ("ridge", "lda", "mass_mean", Linear(l2=10.0)):
        table = probe(store, 0, label=["kind", "sign"], kind=kind, progress=False).table
        assert list(table["label"]) == ["kind", "sign"], kind


class OneLabel(SourceKind):
    name = "one"

    def measure(self, source, asked):
        raise AssertionError("never asked")


def test_what_cannot_be_asked(store) -> None:
    with pytest.raises(ValueError, match="label 'kind' is asked for twice"):
        probe(store, label=["kind", "sign", "kind"])
    with pytest.raises(ValueError, match="no labels asked for: give a column, a list of them"):
        probe(store, label=[])
    with pytest.raises(
        ValueError, match="kind='one' reads one label at a time, not 'kind', 'sign'"
    ):
        probe(store, label=["kind", "sign"], kind=OneLabel())
    with pytest.raises(ValueError, match="label is a number, which kind='lda' cannot predict"):
        probe(store, label=["kind", "size"], kind="lda", progress=False)


def test_a_model_without_the_label_is_not_run(gpt2, tokenizer) -> None:
    from layerscope.corpus import bundled

    with pytest.raises(LookupError, match="no label 'numer'"):
        probe(gpt2, "all", bundled().take(3), label=["upos", "numer"], tokenizer=tokenizer)
