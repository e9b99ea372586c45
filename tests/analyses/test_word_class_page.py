"""docs/word_classes.md is true: its code runs, its images and links are there, its numbers hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerscope.analyses.measures.gdv import gdv_floor

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "word_classes.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, names)  # noqa: S102


def test_images_and_links_are_there() -> None:
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", PAGE):
        assert (DOCS / link).is_file(), link
        assert (DOCS / link).stat().st_size < 150_000, link


def test_the_floors_of_the_page() -> None:
    for sizes, told in (([1, 1], "-1 |"), ([1] * 10, "-0.745 |"), ([1, 9], "-1.667 |")):
        assert f"{told}" in PAGE
        assert gdv_floor(sizes) == pytest.approx(float(told[:-1]), abs=1e-3)
    assert gdv_floor([1] * 10_000) == pytest.approx(-0.707, abs=1e-3)
