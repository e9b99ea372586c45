"""docs/sae.md is true: its code runs, and its images and pages are there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "sae.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, names)  # noqa: S102
    sae, codes, again = names["sae"], names["codes"], names["again"]
    assert int((codes != 0).sum(1).max()) <= 8
    assert again.shape == (10, sae.d_out)
    assert 0.3 < names["finding"].value("explained_variance") < 1


def test_images_and_links_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+\.(?:png|md))", PAGE)
    assert len(links) >= 5
    for link in links:
        assert (DOCS / link).is_file(), link
        assert (DOCS / link).stat().st_size < 150_000
