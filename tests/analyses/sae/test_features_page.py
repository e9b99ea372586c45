"""docs/sae_features.md is true: its code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerscope.analyses.sae.features import FeaturesFinding

DOCS = Path(__file__).resolve().parents[3] / "docs"
TEXT = DOCS / "sae_features.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for code in blocks:
        exec(code, names)  # noqa: S102
    assert (tmp_path / "features.html").is_file()
    finding = names["finding"]
    assert isinstance(finding, FeaturesFinding)
    named = set(re.findall(r"`(\w+)`", TEXT.read_text().split("## What the columns mean")[1]))
    own = {"label", "n", "latent"}
    assert set(finding.table) - own <= named


def test_images_and_links_are_there() -> None:
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", TEXT.read_text()):
        assert (DOCS / link).is_file(), link
    assert (DOCS / "images" / "sae_features.png").stat().st_size < 150_000
