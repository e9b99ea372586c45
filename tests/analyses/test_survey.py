"""The default battery, on a store and on a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from layerscope.analyses import survey
from layerscope.cli import app
from layerscope.corpus import bundled
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
