"""docs/sae_measures.md is true: its code runs, and it names every measure there is."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.analyses.sae.measuring.definitions import DEFINITIONS

DOCS = Path(__file__).resolve().parents[4] / "docs"
PAGE = (DOCS / "sae_measures.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, names)  # noqa: S102


def test_images_and_links_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+\.(?:png|md))", PAGE)
    assert len(links) >= 2
    for link in links:
        assert (DOCS / link).is_file(), link
        assert (DOCS / link).stat().st_size < 150_000


def test_every_measure_is_on_the_page_with_its_definition() -> None:
    lines = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE))
    for key, one in DEFINITIONS.items():
        assert lines[key].replace("\\|", "|") == one.name
