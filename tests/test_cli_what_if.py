"""`layerscope lens`, `skip` and `backpatch`: what they print and save, and how they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layerscope import demo
from layerscope.analyses.back_patches.back_patching_finding import BackPatchingFinding
from layerscope.cli import REFUSED, app, main
from layerscope.cli.inputs import is_there
from layerscope.finding import Finding

MODEL = demo.folder() / "model"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    lines = (demo.folder() / "questions.jsonl").read_text().splitlines()
    path.write_text("\n".join([*lines[:3], *lines[-5:]]) + "\n")
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text(
        "The cat sees the dog.\n\nThe dogs saw four cats.\n\nThe friend of Anna is Julia.\n"
    )
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> str:
    """Run the real entry point; it must exit with REFUSED and one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["layerscope", *map(str, arguments)])
    with pytest.raises(SystemExit, match=str(REFUSED)):
        main()
    error: str = capsys.readouterr().err
    assert "error: " in error
    assert "Traceback" not in error
    return error


def test_backpatch_prints_rates_and_saves(questions: Path, tmp_path: Path) -> None:
    done = run(
        "backpatch", MODEL, questions, "--at", -1, "--at", "start", "--out", tmp_path / "found"
    )
    assert done.exit_code == 0, done.output
    assert "control" in done.output
    assert "next: layerscope report" in done.output
    finding = BackPatchingFinding.load(tmp_path / "found")
    assert set(finding.table["position"].dropna()) == {"-1", "start"}


def test_backpatch_as_json(questions: Path) -> None:
    body = json.loads(run("backpatch", MODEL, questions, "--limit", 4, "--json").stdout)
    assert body["answer"]
    assert body["provenance"]["parameters"]["layer_evaluations"] > 0


def test_backpatch_refuses_what_it_cannot_read(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    error = refused(monkeypatch, capsys, "backpatch", MODEL, questions, "--answer", "gold")
    assert "gold" in error
    assert "answer" in error
    error = refused(monkeypatch, capsys, "backpatch", MODEL, questions, "--at", 40)
    assert "40" in error
    error = refused(monkeypatch, capsys, "backpatch", MODEL, tmp_path / "none.jsonl")
    assert "none.jsonl" in error


def test_skip_prints_a_line_for_each_block(texts: Path, tmp_path: Path) -> None:
    done = run("skip", MODEL, texts, "--cuts", 0, "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    table = Finding.load(tmp_path / "found").table
    assert sorted(set(table["layer"])) == list(range(8))
    body = json.loads(run("skip", MODEL, texts, "--change", "repeat", "--cuts", 0, "--json").stdout)
    assert body["provenance"]["parameters"]["change"] == "repeat"


def test_skip_refuses_an_unknown_change(
    texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert "'turn'" in refused(monkeypatch, capsys, "skip", MODEL, texts, "--change", "turn")


def test_lens_reads_one_text_token_by_token(tmp_path: Path) -> None:
    done = run("lens", MODEL, "The friend of Anna is", "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    for word in ("after", "embed", "Julia"):
        assert word in done.output
    body = json.loads(run("lens", MODEL, "The friend of Anna is", "--json").stdout)
    assert {line["layer"] for line in body["table"]} == set(range(-1, 8))


def test_lens_measures_texts_and_keeps_what_it_fitted(texts: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    done = run("lens", MODEL, texts, "--kind", "affine", "--keep", kept, "--no-twin", "-q")
    assert done.exit_code == 0, done.output
    assert kept.is_file()
    again = run("lens", MODEL, texts, "--kind", kept, "--no-twin", "--json")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nofile.jsonl"], "no such file: 'nofile.jsonl'"),
        (["no/where"], "no such file: 'no/where'"),
        (["no.csv.gz"], "no such file: 'no.csv.gz'"),
        ([""], "an empty text"),
        (["A text", "--kind", "nolens.safetensors"], "no such file: 'nolens.safetensors'"),
    ],
)
def test_lens_does_not_take_a_missing_file_for_a_text(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert says in refused(monkeypatch, capsys, "lens", MODEL, *arguments)


def test_a_text_may_have_dots_and_be_long(tmp_path: Path) -> None:
    assert not is_there("Hello.")
    assert not is_there("read a.txt and/or b.csv")
    assert not is_there("long" * 2000)
    assert is_there(str(tmp_path))


def test_skip_says_that_it_reads_files() -> None:
    assert "File of texts" in run("skip", "--help").output


def test_errors_name_the_options_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(MODEL / name)
    error = refused(monkeypatch, capsys, "lens", bare, "A text")
    assert "pass --tokenizer" in error
    assert "tokenizer=" not in error
    table = tmp_path / "table.csv"
    table.write_text("one,two\na b c,d e f\ng h i,j k l\n")
    assert "Say --text '...'" in refused(monkeypatch, capsys, "lens", MODEL, table)


def test_lens_refuses_an_unknown_kind(
    texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert "'polished'" in refused(monkeypatch, capsys, "lens", MODEL, texts, "--kind", "polished")
