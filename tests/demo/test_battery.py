"""The demonstration from start to end: one report, and curves that show what they claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.demo import battery
from layerscope.finding import Finding


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(battery, "QUICK_SENTENCES", 120)
        patch.setattr(battery, "SITES", ("embed", 4))
        return battery.findings(quick=True, progress=False)


def test_the_quick_battery_writes_one_report(
    found: list[Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(battery, "findings", lambda **_: found)
    page = battery.run(tmp_path / "demo.html", quick=True).read_text(encoding="utf-8")
    assert battery.TITLE in page
    assert "tiny model that comes with layerscope" in page
    assert "layerscope probe MODEL TEXTS.conllu" in page
    for finding in found:
        assert finding.question.split("?")[0] in page


def test_no_path_of_this_machine_is_in_the_findings(found: list[Finding]) -> None:
    for finding in found:
        assert finding.provenance.model == battery.MODEL
        assert str(Path.home()) not in finding.answer()


def test_context_adds_to_what_the_embedding_knows(found: list[Finding]) -> None:
    for kind in (battery.WordClass, battery.ParseDepth):
        (probe,) = (finding for finding in found if isinstance(finding, kind))
        by_site = probe.table.set_index("site")["value"]
        assert by_site.max() > by_site["embed"] + 0.02
        assert probe.notes[0] == kind.why


def test_every_finding_survives_saving(found: list[Finding], tmp_path: Path) -> None:
    for index, finding in enumerate(found):
        again = Finding.load(finding.save(tmp_path / str(index)))
        assert type(again) is type(finding)
        assert again.answer() == finding.answer()
