"""`probe` as users call it: tables, words, pictures, twins, faults, and a real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerscope.finding import Finding
from layerscope.probes import kinds
from layerscope.probes.finding import COLUMNS, ProbeFinding
from layerscope.probes.probe import probe
from layerscope.store import Store

ROWS = 600


@pytest.fixture
def planted(make_store) -> Store:
    """Three layers in which the class stands out by 0, 1 and 3 standard deviations."""
    generator = torch.Generator().manual_seed(0)
    y = np.arange(ROWS) % 2
    sites: dict[str, Tensor] = {}
    for site, gap in (("embed", 0), ("blocks.0.resid_post", 1), ("blocks.1.resid_post", 3)):
        sites[site] = torch.randn(ROWS, 5, generator=generator)
        sites[site][:, 0] += gap * torch.from_numpy(y - 0.5)
    return make_store(
        sites,
        text=np.arange(ROWS) // 6,
        group=[f"d{i // 12}" for i in range(ROWS)],
        word=[f"w{i % 75}" for i in range(ROWS)],
        kind=["ab"[i] for i in y],
        size=sites["blocks.1.resid_post"][:, 1].double().numpy(),
    )


def test_a_line_for_each_site(planted) -> None:
    finding = probe(planted, label="kind", progress=False)
    table = finding.table
    assert list(table["site"]) == ["embed", "blocks.0.resid_post", "blocks.1.resid_post"]
    assert list(table["layer"]) == [-1, 0, 1]
    assert list(table.columns) == [c for c in COLUMNS if not c.startswith("twin")]
    np.testing.assert_allclose(table["value"], [0.5, 0.691, 0.933], atol=0.05)
    assert (table["ci_low"] < table["value"]).all()
    assert (table["value"] < table["ci_high"]).all()
    np.testing.assert_allclose(table["selectivity"], table["value"] - table["control"])
    first = table.iloc[0]
    assert (first["n"], first["n_groups"], first["n_classes"], first["width"]) == (ROWS, 50, 2, 5)
    assert (first["unit"], first["label"]) == ("accuracy", "kind")


def test_the_answer_has_the_numbers_in_it(planted) -> None:
    finding = probe(planted, label="kind", progress=False)
    best = finding.best
    answer = finding.answer()
    assert "kind is read best at blocks.1.resid_post: accuracy" in answer
    for name in ("value", "ci_low", "ci_high", "control", "selectivity", "baseline"):
        assert f"{best[name]:.3f}" in answer, name
    assert f"{finding.table['value'][0]:.3f} at the embeddings" in answer
    assert "600 rows in 50 groups" in answer


def test_numbers_are_read_by_ridge(planted) -> None:
    finding = probe(planted, 1, label="size", progress=False)
    line = finding.table.iloc[0]
    assert (line["unit"], line["estimator"], line["baseline"]) == ("R2", "ridge", 0)
    assert line["value"] > 0.99
    assert "size is read at blocks.1.resid_post: R² 1.000" in finding.answer()


def test_provenance_and_notes(planted) -> None:
    finding = probe(planted, ["embed", 1], label="kind", seed=4, solver="torch", progress=False)
    made = finding.provenance
    assert (made.store_key, made.seed, made.model) == (planted.key, 4, "planted")
    assert made.parameters["layer"] == ["embed", 1]
    assert made.parameters["solver"] == "torch on cpu"
    assert made.seconds is not None
    assert any("standardised on training rows" in note for note in finding.notes)
    assert any("not what the model uses" in note for note in finding.notes)


def test_a_folder_is_as_good_as_a_store(planted) -> None:
    a, b = (probe(s, 1, label="kind", progress=False).table for s in (planted, planted.path))
    assert a.equals(b)


def test_saved_and_loaded_it_answers_and_draws_alike(planted, tmp_path) -> None:
    finding = probe(planted, label="kind", progress=False)
    again = Finding.load(finding.save(tmp_path / "found"))
    assert isinstance(again, ProbeFinding)
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()


def test_the_figure_tells_value_control_baseline_and_twin_apart(planted, make_store) -> None:
    finding = probe(planted, label="kind", progress=False, twin=planted)
    figure = finding.figure()
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {
        "probe", "control: random label per word", "untrained twin", "majority class",
    }  # fmt: skip
    assert list(figure.layout.xaxis.ticktext) == ["embed", "0", "1"]
    assert list(lines["probe"].y) == list(finding.table["value"])
    assert len({(line.line.color, line.line.dash) for line in lines.values()}) == 4
    hover = lines["probe"].customdata[2]
    assert f"selectivity {finding.table['selectivity'][2]:.3f}" in hover
    assert "n = 600 in 50 groups" in hover
    band = next(t for t in figure.data if t.fill == "toself" and max(t.y) > 0.9)
    assert list(band.y[:3]) == list(finding.table["ci_high"])


def test_one_site_is_drawn_as_bars(planted) -> None:
    finding = probe(planted, 1, label="kind", progress=False)
    (bars,) = finding.figure().data
    assert bars.type == "bar"
    assert list(bars.y) == ["majority class", "control: random label per word", "probe"]
    assert bars.error_x.array[2] == pytest.approx(finding.best["ci_high"] - finding.best["value"])


def test_kinds_of_sites_get_a_line_each_and_paths_their_names(make_store) -> None:
    x, columns = torch.randn(60, 3), {"group": np.arange(60), "kind": ["a", "b"] * 30}
    names = ["blocks.0.attn_out", "blocks.0.mlp_out", "blocks.1.attn_out", "blocks.1.mlp_out"]
    mixed = probe(make_store(dict.fromkeys(names, x), **columns), names, progress=False).figure()
    assert {t.name for t in mixed.data if t.name} == {"attn_out", "mlp_out", "majority class"}
    paths = probe(make_store({"conv<1>": x, "fc": x}, **columns), progress=False).figure()
    assert list(paths.layout.xaxis.ticktext) == ["conv&lt;1&gt;", "fc"]


def test_rows_that_are_not_words_have_no_control(make_store) -> None:
    store = make_store({"x": torch.randn(60, 3)}, group=np.arange(60), kind=["a", "b"] * 30)
    finding = probe(store, progress=False)
    assert "control" not in finding.table
    assert any("no control task" in note for note in finding.notes)
    assert "control" not in finding.answer()


def test_dangers_are_noted(make_store) -> None:
    store = make_store(
        {"x": torch.randn(60, 40)}, group=[f"g{i % 10}" for i in range(60)], kind=["a", "b"] * 30
    )
    notes = " | ".join(probe(store, progress=False).notes)
    assert "48 training rows for 40 features" in notes
    assert "intervals rest on 10 groups only" in notes


def test_a_label_that_only_words_carry_is_noted(make_store) -> None:
    """Every word has its own direction: the probe can learn any labelling of words."""
    types = np.arange(900) % 30
    x = torch.nn.functional.one_hot(torch.from_numpy(types)).float()
    store = make_store(
        {"x": x}, text=np.arange(900) // 9, group=np.arange(900) // 9, word=types, kind=types % 2
    )
    finding = probe(store, label="kind", progress=False)
    assert finding.best["control"] > 0.99
    assert any("may know the words, not the label" in note for note in finding.notes)


def test_what_cannot_be_asked(planted, make_store) -> None:
    with pytest.raises(ValueError, match="no kind of probe 'lineal'; did you mean 'linear'"):
        probe(planted, kind="lineal")
    with pytest.raises(ValueError, match="a store has its own rows; give data only with a model"):
        probe(planted, "all", ["a text"])
    with pytest.raises(ValueError, match="twin=True needs the model"):
        probe(planted, label="kind", twin=True)
    with pytest.raises(TypeError, match="give a model, a store or its folder, not int"):
        probe(3)
    with pytest.raises(LookupError, match=r"no label 'knd'.*did you mean 'kind'"):
        probe(planted, label="knd")
    with pytest.raises(LookupError, match=r"site 'blocks\.1\.mlp_out' is not in this store"):
        probe(planted, "blocks.1.mlp_out", label="kind")


def test_a_twin_of_other_rows_is_refused(planted, make_store) -> None:
    other = make_store({s: torch.zeros(ROWS, 5) for s in planted.sites}, {"corpus": "other"})
    with pytest.raises(
        ValueError, match=r"other rows than the model's.*corpus: absent here, other"
    ):
        probe(planted, label="kind", twin=other)
    lacking = make_store({"embed": torch.zeros(9, 5)})
    with pytest.raises(LookupError, match=r"the twin's store lacks blocks\.0\.resid_post"):
        probe(planted, label="kind", twin=lacking)


def test_nan_activations_are_named(make_store) -> None:
    x = torch.randn(60, 3)
    x[17, 1] = float("nan")
    store = make_store({"blocks.0.resid_post": x}, group=np.arange(60), kind=["a", "b"] * 30)
    with pytest.raises(ValueError, match=r"blocks\.0\.resid_post: activations of 1 of 60.*row 17"):
        probe(store, progress=False)


class Network(nn.Module):
    """Untrained: its twin must read as well as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.second(self.first(x).relu())
        return hidden


def test_an_untrained_model_and_its_twin_read_alike(gaussians) -> None:
    from layerscope.corpus import Samples

    x, y = gaussians(2.0, 1200, width=6)
    torch.manual_seed(5)
    model = Network().train()
    samples = Samples(x, labels={"kind": y.numpy()})
    finding = probe(model, ["first", "second"], samples, twin=True, progress=False)
    np.testing.assert_allclose(finding.table["value"], finding.table["twin"], atol=0.03)
    np.testing.assert_allclose(finding.table["value"], 0.84, atol=0.03)
    assert "untrained twin" in finding.answer()
    assert model.training


def test_training_parts_a_model_from_its_twin(gaussians) -> None:
    """A model that drops the class direction reads worse than its twin."""
    from layerscope.corpus import Samples

    x, y = gaussians(3.0, 600, width=6)
    model = Network()
    with torch.no_grad():
        model.first.weight[:, 0] = 0
    samples = Samples(x, labels={"kind": y.numpy()})
    line = probe(model, "first", samples, twin=True, progress=False).table.iloc[0]
    assert abs(line["value"] - 0.5) < 0.08
    assert line["twin_low"] > 0.85


def test_real_model_on_real_text(shared_data: Path) -> None:
    """stories260K on UD EWT dev: word classes at the embeddings and at their best layer (NOTE.md)."""
    from layerscope.corpus import read
    from layerscope.hooks.load import load_model

    model = load_model(shared_data / "stories260K" / "hf")
    corpus = read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    finding = probe(model, ["embed", 2], corpus, label="upos", control=False, progress=False)
    np.testing.assert_allclose(finding.table["value"], [0.622, 0.791], atol=0.02)
    assert finding.best["n"] > 25_000
    assert finding.best["n_groups"] == 318
    assert any("25,138 words of 73,169 tokens" in note for note in finding.notes)


def test_a_store_has_its_own_rows(planted) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="a store has its own rows; rows='words' is for a model"):
        probe(planted, rows="words", progress=False)


def test_a_class_of_probes_is_no_kind(planted) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match=r"kind=LowRank is a class: write kinds\.LowRank\(\)"):
        probe(planted, kind=kinds.LowRank, progress=False)  # type: ignore[arg-type]
