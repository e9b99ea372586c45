"""What a page says is what it shows: nothing in it is taken for markup, every docstring keeps its parts."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown import markdown

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXT = {path: path.read_text() for path in PAGES}
DESCRIBED = sorted(
    {name for text in TEXT.values() for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
)
SOURCES = [
    path for top in ("hooks", "probes", "analyses", "src") for path in (ROOT / top).rglob("*.py")
]
SECTION = re.compile(r"^( +\S.*)\n +(?:Args|Returns|Raises|Warns|Yields|Examples):\n", re.MULTILINE)
ELEMENTS = {"div", "!--"}
"""What pages write in HTML on purpose."""


def docstrings(name: str) -> Iterator[tuple[str, str]]:
    """Those that the site shows under a described name: its own, and of its public members."""
    module, _, last = name.rpartition(".")
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError:
        found = getattr(importlib.import_module(module), last)
    yield name, inspect.getdoc(found) or ""
    if inspect.isclass(found):
        for member, value in vars(found).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                yield f"{name}.{member}", inspect.getdoc(value) or ""


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(DOCS)) for path in PAGES])
def test_no_word_of_a_page_is_taken_for_markup(path: Path) -> None:
    plain = re.sub(r"^( *)```.*?^\1```", "", TEXT[path], flags=re.DOTALL | re.MULTILINE)
    plain = re.sub(r"`[^`]*`", "", plain)
    assert set(re.findall(r"<([a-z!][\w-]*)", plain)) <= ELEMENTS


@pytest.mark.parametrize("name", DESCRIBED)
def test_an_example_of_a_docstring_stands_in_its_own_part(name: str) -> None:
    without = [
        which for which, said in docstrings(name) if ">>> " in said and "Examples:" not in said
    ]
    assert without == []


def test_every_part_of_a_docstring_follows_an_empty_line() -> None:
    run_on = [
        f"{path.relative_to(ROOT)}: {found[1].strip()}"
        for path in SOURCES
        for found in SECTION.finditer(path.read_text())
        if not re.match(r'\s*r?"""|\s*#', found[1])
    ]
    assert run_on == []


def test_a_question_below_a_title_is_known_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="needs the docs group: make docs installs it")
    monkeypatch.syspath_prepend(str(DOCS / "make"))
    house = importlib.import_module("website").House()
    html = markdown("# One\n\n*Why?*\n\n## Two\n\n*How?*\n\nSo.\n\n*Aside.*", extensions=[house])
    assert html.count('<p class="question">') == 2
    assert "<p><em>Aside.</em></p>" in html
