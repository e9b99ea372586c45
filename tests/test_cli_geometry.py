"""`layerscope geometry` and `layerscope similarity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from layerscope.cli.geometry import app
from layerscope.finding import Finding
from layerscope.planted import clouds


@pytest.fixture
def folders(make_store: Any) -> list[str]:
    """Three stores of the same rows, ever nearer to the last."""
    x = clouds.gaussian(240, clouds.isotropic(6))
    columns = {
        "group": [f"g{row // 6}" for row in range(240)],
        "position": torch.arange(240).numpy(),
    }
    found = []
    for share in (0.2, 0.7, 1.0):
        sites = {"embed": x, "blocks.0.resid_post": clouds.blurred(x, share, seed=4)}
        found.append(str(make_store(sites, **columns).path))
    return found


def run(*arguments: object) -> Any:
    given = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, given, env={"COLUMNS": "200"})


def test_geometry_prints_a_table_and_saves(folders: list[str], tmp_path: Path) -> None:
    plain = run("geometry", folders[0], "--quiet", "--out", tmp_path / "finding")
    assert plain.exit_code == 0, plain.output
    assert "participation_ratio" in plain.output
    assert "power_law" not in plain.output
    again = Finding.load(tmp_path / "finding")
    assert again.answer().startswith("Participation ratio")


def test_similarity_within_between_and_over_checkpoints(folders: list[str]) -> None:
    for count, part in ((1, "within"), (2, "between"), (3, "steps")):
        told = run("similarity", *folders[:count], "--measures", "cka", "--json")
        assert told.exit_code == 0, told.output
        table = json.loads(told.output)["table"]
        assert {line["part"] for line in table} == {part}
        assert {line["measure"] for line in table} == {"cka"}
    shown = run("similarity", *folders[:2], "--measures", "cka,rsa", "--quiet").output
    assert "cka" in shown
    assert "1.000" in shown
    values = [line["value"] for line in table if line["site"] != "embed"]
    assert values == sorted(values)


def test_a_file_of_texts_among_the_models_is_named(folders: list[str], tmp_path: Path) -> None:
    texts = tmp_path / "texts.conllu"
    texts.write_text("")
    told = run("similarity", *folders[:2], texts)
    assert told.exit_code != 0
    assert "did you mean --data" in str(told.exception) + told.output


def test_models_run_on_texts(
    gpt2: Any, tokenizer: Any, sentences: list[str], tmp_path: Path
) -> None:
    gpt2.save_pretrained(tmp_path / "net")
    tokenizer.save_pretrained(tmp_path / "net")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(sentences))
    told = run("similarity", tmp_path / "net", "--data", texts, "--measures", "cka,knn", "--json")
    assert told.exit_code == 0, told.output
    assert len(json.loads(told.output)["table"]) == 2 * 16
    told = run("geometry", tmp_path / "net", texts, "--limit", 5, "--layers", "embed,-1", "--json")
    assert told.exit_code == 0, told.output
    table = json.loads(told.output)["table"]
    assert {line["site"] for line in table} == {"embed", "blocks.2.resid_post"}
