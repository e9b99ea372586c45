"""`layerscope words`: what it prints, saves and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layerscope import demo
from layerscope.analyses.clustering.word_class_finding import WordClassFinding
from layerscope.cli.app import app
from layerscope.cli.words import SHOWN
from layerscope.finding import Finding

MODEL = demo.folder() / "model"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from layerscope.corpus import bundled
    from layerscope.hooks.extract import extract

    folder = tmp_path_factory.mktemp("words") / "store"
    sites = ["embed", 0, 7]
    extract(demo.load_model(), bundled().take(120), sites, to=folder, progress=False)
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_words_prints_the_gdv_and_saves_the_maps(store: Path, tmp_path: Path) -> None:
    done = run(
        "words", store, "--maps", "pca", "--per-class", 30, "--out", tmp_path / "found", "-q"
    )
    assert done.exit_code == 0, done.output
    assert "By the upos of the next word" in done.output
    assert all(name in done.output for name in SHOWN if name != "twin")
    assert done.output.count("blocks.7.resid_post") >= 2  # the answer, and a line for each kind
    assert "next: layerscope report" in done.output
    found = Finding.load(tmp_path / "found")
    assert isinstance(found, WordClassFinding)
    assert len(found.map("embed", "pca"))


def test_words_as_json_has_the_scores_and_no_points(store: Path, tmp_path: Path) -> None:
    done = run(
        "words",
        store,
        "--maps",
        "pca",
        "--per-class",
        30,
        "--of",
        "next",
        "--json",
        "--out",
        tmp_path / "found",
    )
    assert done.exit_code == 0, done.output
    body = json.loads(done.stdout)
    assert {line["part"] for line in body["table"]} >= {"gdv", "silhouette", "nc1"}
    assert {line["of"] for line in body["table"]} == {"next"}
    assert not {line["part"] for line in body["table"]} & {"map", "point"}
    assert len(body["table"]) == 7 * 3
    assert (tmp_path / "found" / "finding.json").is_file()


def test_words_without_maps_and_with_punctuation(store: Path) -> None:
    done = run("words", store, "--maps", "none", "--punctuation", "--layers", "7", "--json")
    assert done.exit_code == 0, done.output
    parameters = json.loads(done.stdout)["provenance"]["parameters"]
    assert (parameters["maps"], parameters["exclude"]) == ([], [])


def test_words_refuses_a_map_there_is_none_of(store: Path) -> None:
    done = run("words", store, "--maps", "tsne")
    assert done.exit_code == 1
    assert "--maps 'tsne': there are: 'pca'" in str(done.exception)
