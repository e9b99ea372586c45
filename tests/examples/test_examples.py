"""Each example runs on the real model that it was written for, and says what is true of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_treebank(shared_data: Path, tmp_path: Path) -> Path:
    """The first 300 sentences of the EWT development set."""
    whole = (shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu").read_text()
    path = tmp_path / "small.conllu"
    path.write_text("\n\n".join(whole.split("\n\n")[:300]) + "\n\n")
    return path


def test_word_classes(
    shared_data: Path, small_treebank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    model = shared_data / "stories260K" / "hf"
    example("word_classes").main(str(model), str(small_treebank), str(out))
    assert "upos" in capsys.readouterr().out
    assert out.stat().st_size > 100_000


def test_over_training(shared_data: Path, small_treebank: Path) -> None:
    table = example("over_training").main(
        str(shared_data / "gpt2_books_steps"), str(small_treebank), "0", "2048"
    )
    assert (table.loc["blocks.3.resid_post", 2048]) > (table.loc["blocks.3.resid_post", 0])
    assert table.loc["embed", 0] > table.loc["blocks.3.resid_post", 0]


def test_gru_letters(shared_data: Path) -> None:
    table = example("gru_letters").main(str(shared_data / "g2p_cmu"), words=300)
    assert table.loc["letter 0 back", "enc_emb"] > 0.99
    assert table.loc["letter 1 back", "enc"] > table.loc["letter 1 back", "enc_emb"]
    assert table.loc["letter 1 back", "enc"] > table.loc["letter 4 back", "enc"]


def test_sparse_autoencoder(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "latents.html"
    model, texts = shared_data / "stories260K" / "hf", shared_data / "text_tinystories"
    few = tmp_path / "few.json"
    few.write_text(json.dumps(json.loads((texts / "tinystories_500.json").read_text())[:60]))
    said = example("sparse_autoencoder").main(str(model), str(few), str(out), tokens=100_000)
    assert "its direction raises" in said
    assert out.stat().st_size > 100_000
