"""The examples of docs/lens.md and docs/depth_use.md run, and say what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run(name: str) -> dict[str, Any]:
    page = (DOCS / name).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)  # noqa: S102
    for image in re.findall(r"\]\((images/.*?)\)", page):
        assert (DOCS / image).is_file(), image
    return names


def test_the_lens_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run("lens.md")
    assert names["kept"].kind == "affine"
    assert names["finding"].lenses == ["logit", "affine"]


def test_the_depth_page() -> None:
    names = run("depth_use.md")
    best = names["finding"].best
    # A model maps to itself; ridge and few rows leave a little.
    assert (best["source_index"] == best["target_index"]).all()
    assert best["value"].max() < 0.05
