"""docs/probe_kinds.md is true: its code runs, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.probes.kinds import NAMES, as_kind
from layerscope.probes.kinds.kind import LabelKind

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "probe_kinds.md").read_text()


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 4
    for code in blocks:
        exec(code, names)  # noqa: S102


def test_images_and_links_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+\.(?:png|md))", TEXT)
    assert links
    for link in links:
        assert (DOCS / link).is_file(), link


def test_every_kind_that_reads_labels_from_rows_is_in_the_table() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    for name in set(NAMES) - {"concepts"}:  # which has no defaults
        if isinstance(as_kind(name), LabelKind):
            assert name in rows, name
    assert "concepts" in rows
