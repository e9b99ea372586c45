"""The pages that lead from a model to its first answers are true: their code runs, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import layerscope as ls
from layerscope import demo
from layerscope.corpus import bundled

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {"anatomy": 2, "demo": 1, "extract": 2, "probes": 3, "store": 2, "survey": 1}
"""Page -> how many blocks of code it has."""


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "store":  # which reads one that is there
        ls.extract(demo.load_model(), bundled().take(300), [3], to="my-store", progress=False)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert len(blocks) == PAGES[name]
    for code in blocks:
        exec(code, names)  # noqa: S102


@pytest.mark.parametrize("name", [*PAGES, "capture", "corpus"])
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    for link in re.findall(r"\]\(([^)#:]+\.(?:png|md))", text):
        assert (DOCS / link).is_file(), link


def test_the_tree_of_the_page_is_the_bundled_model() -> None:
    """All but the first line, which names a folder."""
    told = re.findall(r"```text\n(.*?)```", (DOCS / "anatomy.md").read_text(), re.DOTALL)
    printed = str(ls.anatomy(demo.load_model())).splitlines()
    assert _unrounded(told[0].splitlines()[1:]) == _unrounded(printed[1:])


def _unrounded(lines: list[str]) -> list[str]:
    """Without the rounding errors, which another processor makes differently."""
    return [re.sub(r"error \S+\)", "error)", line).rstrip() for line in lines]
