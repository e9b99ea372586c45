"""docs/sae_rows.md is true: its code runs, and its options are those there are."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.analyses.sae.rows import scaling, statistics

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "sae_rows.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    for code in blocks:
        exec(code, names)  # noqa: S102


def test_every_scaling_is_on_the_page() -> None:
    assert set(re.findall(r'^\| `"(\w+)"`', PAGE, re.MULTILINE)) == set(scaling.KINDS)


def test_what_counts_as_a_mismatch_is_as_the_page_says() -> None:
    assert (statistics.MOST_RATIO, statistics.MOST_SHIFT, statistics.MOST_MISFIT) == (1.5, 0.5, 0.1)
    assert "ratio above 1.5" in PAGE
    assert "half a standard deviation" in PAGE
    assert "10 % of the variance" in PAGE
