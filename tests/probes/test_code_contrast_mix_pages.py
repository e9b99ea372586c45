"""docs/mdl.md, docs/contrast_probes.md and docs/layer_mixes.md are true: their code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PLAIN = {"label", "site", "layer", "unit", "estimator", "n", "n_groups", "n_classes", "width"}
PAGES = ["mdl", "contrast_probes", "layer_mixes"]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name: str, shared_data: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102
    assert "finding" in names


@pytest.mark.parametrize("name", PAGES)
def test_images_and_links_are_there(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    links = re.findall(r"\]\(([^)#]+\.(?:png|md))", text)
    assert links
    for link in links:
        assert (DOCS / link).is_file(), link


@pytest.mark.parametrize(
    ("name", "kind", "columns"),
    [
        ("mdl", "coding.finding", ()),
        ("contrast_probes", "contrast.consistency_finding", ("pair", "side")),
        ("contrast_probes", "contrast.clue_finding", ()),
        ("layer_mixes", "mixing.layer_mix_finding", ()),
        ("layer_mixes", "mixing.pooling_finding", ()),
    ],
)
def test_special_columns_are_explained(name: str, kind: str, columns: tuple[str, ...]) -> None:
    """Those that the page of probes does not explain already."""
    from importlib import import_module

    shared = (DOCS / "probes.md").read_text()
    said = (DOCS / f"{name}.md").read_text()
    for column in (*import_module(f"layerscope.probes.{kind}").COLUMNS, *columns):
        # Ends of an interval and deviations are explained with their value.
        whole = column.removesuffix("_low").removesuffix("_high").removesuffix("_sd")
        known = any(f"`{name}`" in text for name in (column, whole) for text in (said, shared))
        assert known or column in PLAIN, column
