"""docs/sae_formats.md is true: its code runs, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from layerscope.analyses.sae import load
from layerscope.analyses.sae.formats.dictionary_learning import CLASSES
from layerscope.analyses.sae.formats.recognising import FORMATS

PAGE = Path(__file__).resolve().parents[4] / "docs" / "sae_formats.md"


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for code in blocks:
        exec(code, names)  # noqa: S102
    assert len(blocks) == 2
    assert repr(names["again"]) == "SAE(topk k=8, 64 -> 256 latents -> 64 at blocks.3.resid_post)"
    theirs, folder = names["theirs"], names["folder"]
    assert theirs.about == {"format": "dictionary_learning", "architecture": "AutoEncoder"}
    assert {path.name for path in folder.iterdir()} == {
        "cfg.json",
        "layerscope.json",
        "sae_weights.safetensors",
    }


def test_the_table_names_every_format() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == ["format", *FORMATS]
    assert [name for name in CLASSES if f"`{name}`" not in text] == []


def test_the_error_it_shows_is_the_one_it_gives(tmp_path) -> None:
    shown = re.search(r"ValueError: \.\.\./(.*)\n", PAGE.read_text())
    assert shown is not None
    entries = {
        "encoder.weight": torch.zeros(256, 64),
        "encoder.bias": torch.zeros(256),
        "decoder.weight": torch.zeros(256, 64),
        "bias": torch.zeros(64),
    }
    torch.save(entries, tmp_path / "ae.pt")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{shown[1]}")):
        load(tmp_path)


def test_links_are_there() -> None:
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", PAGE.read_text()):
        assert (PAGE.parent / link).is_file(), link
