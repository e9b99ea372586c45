"""The docs pages about sparse autoencoders are true: their code runs, and they name what there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerscope.analyses.sae import load
from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES
from layerscope.analyses.sae.formats.dictionary_learning import CLASSES
from layerscope.analyses.sae.formats.recognising import FORMATS
from layerscope.analyses.sae.measuring.definitions import DEFINITIONS
from layerscope.analyses.sae.rows import scaling, statistics

DOCS = Path(__file__).resolve().parents[3] / "docs"
Names = dict[str, Any]


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def trained(names: Names) -> None:
    assert int((names["codes"] != 0).sum(1).max()) <= 8
    assert names["again"].shape == (10, names["sae"].d_out)
    assert 0.3 < names["finding"].value("explained_variance") < 1


def made(names: Names) -> None:
    assert names["sae"].activation == "jumprelu"


def read_rows(names: Names) -> None:
    assert names["x"].shape == (64, 64) or names["x"].ndim == 2


def measured(names: Names) -> None:
    assert 0 < names["finding"].value("explained_variance") < 1


def looked_at(names: Names) -> None:
    assert Path("features.html").is_file()
    said = set(re.findall(r"`(\w+)`", page("sae_features").split("## What is computed")[1]))
    assert set(names["finding"].table) - {"label", "n", "latent"} <= said


def read_and_written(names: Names) -> None:
    assert repr(names["again"]) == "SAE(topk k=8, 64 -> 256 latents -> 64 at blocks.3.resid_post)"
    theirs = {"format": "dictionary_learning", "architecture": "AutoEncoder"}
    assert names["theirs"].about == theirs
    files = {"cfg.json", "layerscope.json", "sae_weights.safetensors"}
    assert {path.name for path in names["folder"].iterdir()} == files


PAGES: dict[str, tuple[int, Callable[[Names], None]]] = {
    "sae": (2, trained),
    "sae_architectures": (2, made),
    "sae_rows": (1, read_rows),
    "sae_measures": (2, measured),
    "sae_features": (2, looked_at),
    "sae_formats": (2, read_and_written),
}
"""Page -> pieces of code on it, and what holds after they ran."""


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pieces, holds = PAGES[name]
    blocks = re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)
    assert len(blocks) == pieces
    names: Names = {}
    for code in blocks:
        exec(code, names)  # noqa: S102
    holds(names)


@pytest.mark.parametrize("name", PAGES)
def test_images_and_links_are_there(name: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+\.(?:png|md))", page(name)):
        assert (DOCS / link).is_file(), link
        assert (DOCS / link).stat().st_size < 150_000


def test_the_table_has_every_architecture() -> None:
    first = page("sae_architectures").split("```")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE)) == set(ARCHITECTURES)


def test_every_scaling_is_on_the_page() -> None:
    kinds = re.findall(r'^\| `"(\w+)"`', page("sae_rows"), re.MULTILINE)
    assert set(kinds) == set(scaling.KINDS)


def test_what_counts_as_a_mismatch_is_as_the_page_says() -> None:
    assert (statistics.MOST_RATIO, statistics.MOST_SHIFT, statistics.MOST_MISFIT) == (1.5, 0.5, 0.1)
    for said in ("ratio above 1.5", "half a standard deviation", "10 % of the variance"):
        assert said in page("sae_rows")


def test_every_measure_is_on_the_page_with_its_definition() -> None:
    lines = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page("sae_measures"), re.MULTILINE))
    for key, one in DEFINITIONS.items():
        assert lines[key].replace("\\|", "|") == one.name


def test_the_table_names_every_format() -> None:
    text = page("sae_formats")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == ["format", *FORMATS]
    assert [name for name in CLASSES if f"`{name}`" not in text] == []


def test_the_error_it_shows_is_the_one_it_gives(tmp_path: Path) -> None:
    shown = re.search(r"ValueError: \.\.\./(.*)\n", page("sae_formats"))
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
