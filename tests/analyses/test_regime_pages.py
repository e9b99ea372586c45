"""docs/task_geometry.md and docs/learning_regime.md are true: their code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ["task_geometry", "learning_regime"]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name: str) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, names)  # noqa: S102


@pytest.mark.parametrize("name", PAGES)
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    links = re.findall(r"\]\(([^)#]+\.(?:png|md))", text)
    assert links
    for link in links:
        assert (DOCS / link).is_file(), link
