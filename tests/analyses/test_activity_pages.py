"""docs/sparsity.md and docs/attention_modes.md are true: their code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerscope.analyses.measures.concentration import gaussian_share

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["sparsity", "attention_modes"])
def test_the_page_runs(name: str) -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for code in blocks:
        exec(code, names)  # noqa: S102


@pytest.mark.parametrize("name", ["sparsity", "attention_modes"])
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    for link in re.findall(r"\]\(([^)#]+\.(?:png|md))", text):
        assert (DOCS / link).is_file(), link


def test_the_law_of_the_page() -> None:
    text = " ".join((DOCS / "attention_modes.md").read_text().split())
    assert "78 % at s = 0.5, 61 % at 1, 24 % at 2" in text
    assert [round(100 * gaussian_share(s)) for s in (0.5, 1, 2)] == [78, 61, 24]
