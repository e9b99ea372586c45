"""The examples of docs/patching.md and docs/layer_programs.md run, and say what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run(name: str) -> tuple[str, dict[str, Any]]:
    page = (DOCS / name).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)  # noqa: S102
    for image in re.findall(r"\]\((images/.*?)\)", page):
        assert (DOCS / image).is_file(), image
    return " ".join(page.replace("\n>", "").split()), names


def test_the_patching_page() -> None:
    page, names = run("patching.md")
    for name in ("finding", "estimated"):
        assert names[name].answer() in page
    assert set(names["cut"].table["flow"]) == {"last ⇸ name", "last ⇸ relations"}
    assert names["traced"].table["n"].max() <= 2


def test_the_page_of_layer_programs() -> None:
    _, names = run("layer_programs.md")
    table = names["finding"].table
    assert set(table["search"]) == {"answer", "control", "fixed"}
    assert table["tries"].max() == 60
