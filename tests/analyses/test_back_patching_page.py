"""docs/back_patching.md is true: its code runs, its columns are the table's."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.analyses.back_patches.back_patching_finding import COLUMNS, BackPatchingFinding

PAGE = Path(__file__).resolve().parents[2] / "docs" / "back_patching.md"


def test_the_code_runs() -> None:
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)  # noqa: S102
    finding = names["finding"]
    assert isinstance(finding, BackPatchingFinding)
    assert "At the last token" in finding.answer()


def test_every_column_is_explained() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert said == set(COLUMNS)


def test_the_figure_is_there() -> None:
    assert (PAGE.parent / "images" / "back_patching.png").is_file()
