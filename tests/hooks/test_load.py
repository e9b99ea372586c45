"""Models and tokenizers by the words a user types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.hooks.load import load_model, tokenizer_of

SOURCE = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train()

def wrong():
    return "no module"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_saved_model_comes_back_in_eval_mode_with_its_head(gpt2: Any, tmp_path: Path) -> None:
    gpt2.save_pretrained(tmp_path)
    model: Any = load_model(tmp_path)
    assert type(model) is type(gpt2)
    assert not model.training
    ids = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, gpt2(input_ids=ids).logits)


def test_a_tilde_is_the_home_folder(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(load_model("~/mine.py:build"), nn.Sequential)
    with pytest.raises(FileNotFoundError, match=rf"no model folder '{tmp_path}/nowhere'"):
        load_model("~/nowhere")


def test_the_saved_dtype_is_kept_unless_another_is_asked(gpt2: Any, tmp_path: Path) -> None:
    gpt2.bfloat16().save_pretrained(tmp_path)
    assert next(load_model(tmp_path).parameters()).dtype == torch.bfloat16
    assert next(load_model(tmp_path, dtype=torch.float32).parameters()).dtype == torch.float32


def test_a_function_in_a_file_builds_the_model(source: Path) -> None:
    model = load_model(f"{source}:build")
    assert isinstance(model, nn.Sequential)
    assert not model.training


def test_what_a_file_lacks_is_said(source: Path) -> None:
    with pytest.raises(ValueError, match="no function 'bild'; it has: build, wrong"):
        load_model(f"{source}:bild")
    with pytest.raises(TypeError, match="returned a str"):
        load_model(f"{source}:wrong")
    with pytest.raises(FileNotFoundError, match=r"there is: mine\.py"):
        load_model(f"{source.parent}/mone.py:build")


def test_a_folder_without_a_model_is_told_from_a_missing_one(gpt2: Any, tmp_path: Path) -> None:
    gpt2.save_pretrained(tmp_path / "runs" / "step10")
    with pytest.raises(FileNotFoundError, match=r"without config\.json.*step10"):
        load_model(tmp_path / "runs")
    with pytest.raises(FileNotFoundError, match="there is: step10"):
        load_model(tmp_path / "runs" / "step11")


def test_a_name_that_is_nowhere_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def out_of_reach(url: str) -> None:
        asked.append(url)
        raise ConnectionError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", out_of_reach)
    said = r"no local folder 'bogus-model' in .* the hub cannot be reached \(no route\)"
    with pytest.raises(OSError, match=said):
        load_model("bogus-model")
    assert len(asked) == 1


def test_a_tokenizer_by_object_by_path_or_from_the_model(
    gpt2: Any, tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_of(gpt2, tokenizer) is tokenizer
    assert tokenizer_of(gpt2, tmp_path).get_vocab() == tokenizer.get_vocab()
    gpt2.save_pretrained(tmp_path)
    assert tokenizer_of(load_model(tmp_path)).get_vocab() == tokenizer.get_vocab()


def test_a_folder_without_a_tokenizer_says_so(gpt2: Any, tmp_path: Path) -> None:
    gpt2.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        tokenizer_of(load_model(tmp_path))
    with pytest.raises(ValueError, match="gives no character offsets"):
        tokenizer_of(gpt2, tokenizer=object())
