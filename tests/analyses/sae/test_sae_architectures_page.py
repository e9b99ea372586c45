"""docs/sae_architectures.md is true: its code runs, and its table has every architecture."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sae_architectures.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, names)  # noqa: S102
    assert names["sae"].activation == "jumprelu"  # type: ignore[attr-defined]


def test_the_table_has_every_architecture() -> None:
    first = PAGE.split("```")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE)) == set(ARCHITECTURES)
