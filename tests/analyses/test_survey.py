"""The default battery, on a store and on a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from layerscope import analyses
from layerscope.analyses import survey
from layerscope.analyses.survey import LEFT_OUT, QUESTIONS
from layerscope.cli import app
from layerscope.corpus import Samples, bundled
from layerscope.finding import Finding

OF_A_STORE = ["ProbeFinding", "CodeFinding", "WordClassFinding", "GeometryFinding"]
OF_A_MODEL = ["SparsityFinding", "AttentionModesFinding", "ConceptErasureFinding"]


@pytest.fixture
def planted(make_store):  # type: ignore[no-untyped-def]
    """Two sites; the class is only in the second."""
    draw = torch.Generator().manual_seed(0)
    kind = torch.arange(600) % 3
    first = torch.randn(600, 8, generator=draw)
    second = torch.randn(600, 8, generator=draw)
    second[:, :3] += 4 * torch.nn.functional.one_hot(kind, 3)
    word = [f"w{i}" for i in np.random.default_rng(0).integers(50, size=600)]
    return make_store(
        {"embed": first, "blocks.0.resid_post": second},
        {"rows": {"rule": "words"}},
        text=np.arange(600) // 10,
        position=np.arange(600) % 10,
        word_index=np.arange(600) % 10,
        group=np.arange(600) // 10,
        token=word,
        word=word,
        char_start=(np.arange(600) % 10) * 4,
        char_end=(np.arange(600) % 10) * 4 + 3,
        content=["abc " * 10] * 600,
        kind=["xyz"[i] for i in kind],
    )


def names(findings: tuple[Finding, ...]) -> list[str]:
    return [type(finding).__name__ for finding in findings]


def test_a_store_is_asked_what_activations_can_tell(planted) -> None:
    found = survey(planted, label="kind", progress=False)
    assert names(found) == [*OF_A_STORE, "SimilarityMapFinding"]
    read, code, *_ = found
    for finding in (read, code):
        values = finding.table.groupby("site", sort=False)["value"].first()
        assert values["blocks.0.resid_post"] > 1.3 * values["embed"]
    assert all(finding.provenance.store_key == planted.key for finding in found)


def test_a_model_is_asked_about_its_neurons_heads_and_use_as_well(gpt2, tokenizer) -> None:
    corpus = bundled().take(150)
    found = survey(gpt2, corpus, label="upos", tokenizer=tokenizer, progress=False)
    assert names(found) == [*OF_A_STORE, "SimilarityMapFinding", *OF_A_MODEL]
    assert all(finding.answer() and len(finding.table) for finding in found)


def test_the_command_writes_one_report(planted, tmp_path: Path) -> None:
    page = tmp_path / "survey.html"
    asked = ["survey", str(planted.path), "--label", "kind", "--out", str(page)]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    body = json.loads(done.output)
    assert len(body["findings"]) == len(OF_A_STORE) + 1
    text = page.read_text()
    assert all(finding["question"] in text for finding in body["findings"])
    done = CliRunner().invoke(app, [*asked, "--quiet"])
    assert "kind is read best at blocks.0.resid_post" in done.output


def test_a_label_that_is_not_there(planted) -> None:
    with pytest.raises(LookupError, match=r"no label 'knd'.*did you mean 'kind'"):
        survey(planted, label="knd", progress=False)


def left_out(findings: tuple[Finding, ...]) -> list[str]:
    return [note for note in findings[-1].notes if note.startswith(LEFT_OUT)]


def test_without_labels_the_other_questions_are_answered(make_store) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    sites = {"embed": x, "blocks.0.resid_post": x + x.roll(1, 0), "blocks.0.mlp_act": x.relu()}
    store = make_store(sites, text=np.arange(200) // 10, group=np.arange(200) // 10)
    found = survey(store, progress=False)
    assert names(found) == ["GeometryFinding", "SimilarityMapFinding", "SparsityFinding"]
    assert left_out(found)[0] == (
        f"{LEFT_OUT}probe, mdl, word_classes, concept_erasure (no labels)"
    )


def test_a_model_without_labels_reads_one_corpus(gpt2, tokenizer) -> None:  # type: ignore[no-untyped-def]
    texts = [f"Text {i} of a few words that says how it goes on and on." * 3 for i in range(30)]
    found = survey(gpt2, texts, 1, tokenizer=tokenizer, progress=False)
    kinds = ["GeometryFinding", "SimilarityMapFinding", "SparsityFinding", "AttentionModesFinding"]
    assert set(names(found)) <= set(kinds)
    assert {"GeometryFinding", *kinds[2:]} <= set(names(found))
    assert set(found[0].table["layer"].dropna()) == {1}
    assert any("no labels" in note for note in left_out(found))


def test_what_is_skipped_or_has_no_answer_is_said(planted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def refuse(*args: object, **options: object) -> None:
        raise ValueError("the rows are all alike")

    monkeypatch.setattr(analyses, "geometry", refuse)
    seen: list[int] = []
    found = survey(
        planted,
        label="kind",
        skip=("mdl", "word_classes"),
        progress=False,
        after=lambda sofar: seen.append(len(sofar)),
    )
    assert names(found) == ["ProbeFinding", "SimilarityMapFinding"]
    assert f"{LEFT_OUT}mdl, word_classes (skipped)" in left_out(found)
    assert f"{LEFT_OUT}geometry (the rows are all alike)" in left_out(found)
    assert seen == [1, 2, 2]
    with pytest.raises(
        LookupError, match=r"no question 'geometri' to skip; did you mean 'geometry"
    ):
        survey(planted, skip="geometri", progress=False)
    with pytest.raises(ValueError, match=r"geometry \(the rows are all alike\)"):
        survey(
            planted, label="kind", skip=[q for q in QUESTIONS if q != "geometry"], progress=False
        )


def test_a_network_of_named_modules_is_asked_by_layer() -> None:
    draw = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    images = Samples(
        torch.randn(120, 1, 8, 8, generator=draw),
        labels={"kind": ["ab"[i % 2] for i in range(120)]},
    )
    found = survey(model, images, ["2", "3"], progress=False)
    assert {"ProbeFinding", "GeometryFinding"} <= set(names(found))
    assert set(found[0].table["site"]) == {"2", "3"}


def test_the_report_is_there_after_the_first_answer(planted, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analyses, "geometry", killed)
    page = tmp_path / "survey.html"
    asked = ["survey", str(planted.path), "--label", "kind", "--out", str(page), "--quiet"]
    CliRunner().invoke(app, [*asked, "--skip", "mdl", "--skip", "word_classes"])
    assert "read best at blocks.0.resid_post" in page.read_text()


def test_the_command_says_what_was_left_out(planted, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    asked = ["survey", str(planted.path), "--label", "kind", "--out", str(tmp_path / "a.html")]
    skips = [word for name in QUESTIONS if name != "geometry" for word in ("--skip", name)]
    done = CliRunner().invoke(app, [*asked, *skips, "--quiet", "--layers", "0"])
    assert done.exit_code == 0, done.output
    assert f"{LEFT_OUT}probe, mdl, word_classes, similarity" in done.output
