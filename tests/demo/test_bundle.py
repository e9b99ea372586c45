"""The bundled files are what the scripts in this repository make."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerscope import demo
from layerscope.demo import bundle, documents, train, world
from layerscope.demo.recall import KINDS, recall


def record() -> dict[str, float]:
    """What was measured when the model was made; the bundled model must still be that model."""
    text = (demo.folder() / "model" / "training.json").read_text(encoding="utf-8")
    last: dict[str, float] = json.loads(text)["log"][-1]
    return last


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return demo.load_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return demo.load_tokenizer()


def test_the_bundled_data_are_what_the_seed_gives(tmp_path: Path) -> None:
    bundle.write(tmp_path)
    made = gzip.decompress((tmp_path / "sentences.conllu.gz").read_bytes())
    assert gzip.decompress((demo.folder() / "sentences.conllu.gz").read_bytes()) == made
    name = "questions.jsonl"
    assert (demo.folder() / name).read_bytes() == (tmp_path / name).read_bytes()
    assert demo.questions() == world.all_questions()


def test_sizes_are_as_promised() -> None:
    folder = demo.folder()
    assert (folder / "sentences.conllu.gz").stat().st_size < 300_000
    assert sum(f.stat().st_size for f in (folder / "model").iterdir()) < 4_200_000
    assert (folder / "model" / "model.safetensors").stat().st_size <= 4_000_000


def test_no_bundled_sentence_is_in_the_training_stream() -> None:
    bundled = documents.held_out()
    raw = {s.text for i in range(1000) for s in documents.document(f"train/0/{i}")}
    assert raw & bundled, "the two streams never collide, so the test would show nothing"
    stream = islice(documents.training_documents("0"), 1000)
    assert not bundled & {text for texts in stream for text in texts}


def test_the_model_is_small_and_complete(model: nn.Module) -> None:
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size) == (8, 128)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not model.training
    assert all(p.isfinite().all() for p in model.parameters())
    assert str(demo.folder() / "model") == model.name_or_path


def test_the_documented_loss_holds(model: nn.Module, tokenizer: Any) -> None:
    loss = train.held_out_loss(model, tokenizer, train.held_out_texts())
    assert loss == pytest.approx(record()["held-out loss"], abs=0.01)


def test_the_documented_recall_holds(model: nn.Module) -> None:
    table = recall(model).table.set_index("kind")["value"]
    for kind in KINDS:
        assert table[kind] == pytest.approx(record()[kind], abs=0.01)
    assert table[KINDS[0]] > 0.98
    assert 0.5 < table[KINDS[2]] < table[KINDS[1]]


def test_the_documentation_quotes_the_record() -> None:
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    for name, digits in {"held-out loss": "{:.3f}", **dict.fromkeys(KINDS, "{:.1%}")}.items():
        assert f"| {name} | {digits.format(record()[name])} |" in page


def test_the_record_has_the_settings_of_the_script() -> None:
    settings = json.loads((demo.folder() / "model" / "training.json").read_text())["settings"]
    assert settings == asdict(train.Settings())


def test_any_text_goes_through_the_tokenizer_and_back(tokenizer: Any) -> None:
    for text in ("The dog sleeps.", "héllo  wörld", "你好 🦊", "  two\nlines\t", "a<s>b"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == text or "<s>" in text
    words = {q.answer for q in world.all_questions()} | set(world.NAMES)
    assert all(len(tokenizer(" " + w, add_special_tokens=False)["input_ids"]) == 1 for w in words)


def test_the_licence_is_stated() -> None:
    card = (demo.folder() / "model" / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in card


def test_importing_the_demo_is_light() -> None:
    code = "import sys, layerscope.demo; print({'torch', 'transformers', 'pandas'} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_the_world_in_the_file_reads_as_json() -> None:
    first = json.loads((demo.folder() / "questions.jsonl").read_text("utf-8").splitlines()[0])
    assert {"prompt", "answer", "bridge", "hops", "seen"} <= first.keys()
