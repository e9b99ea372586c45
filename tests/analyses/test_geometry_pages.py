"""docs/geometry.md and docs/similarity.md are true: their code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerscope.analyses.resemblance.cells import MEASURES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["geometry", "similarity"])
def test_the_page_runs(name: str) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102


@pytest.mark.parametrize("name", ["geometry", "similarity"])
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", text):
        assert (DOCS / link).is_file(), link
        assert (DOCS / link).stat().st_size < 150_000


def test_every_measure_is_on_the_page() -> None:
    text = (DOCS / "similarity.md").read_text()
    assert set(MEASURES) == set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
