"""docs/tree_probes.md is true: its code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_runs(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "tree_probes.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks:
        exec(code.replace("../shared/data", str(shared_data)), names)  # noqa: S102
    assert (tmp_path / "trees.safetensors").is_file()


def test_images_are_there() -> None:
    text = (DOCS / "tree_probes.md").read_text()
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", text):
        assert (DOCS / link).is_file(), link
