"""docs/layer_similarity.md and docs/layer_skip.md are true: their code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["layer_similarity", "layer_skip"])
def test_the_page_runs(name: str) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for code in blocks:
        exec(code, names)  # noqa: S102


@pytest.mark.parametrize("name", ["layer_similarity", "layer_skip"])
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", text):
        assert (DOCS / link).is_file(), link
