from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from layerscope.finding import Finding, Provenance
from layerscope.report import collect


@pytest.fixture(autouse=True)
def bare_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Finding` itself can be saved once it has something to say."""
    monkeypatch.setattr(Finding, "answer", lambda finding: "An answer.")


def save(folder: Path) -> Path:
    table = pd.DataFrame({"value": [1.0]})
    return Finding(table, Provenance(data=folder.name)).save(folder)


def names(findings: list[Finding]) -> list[str]:
    return [finding.provenance.data for finding in findings]


def test_a_folder_that_is_a_finding(tmp_path: Path) -> None:
    assert names(collect(save(tmp_path / "one"))) == ["one"]
    assert names(collect(str(tmp_path / "one"))) == ["one"]


def test_nested_folders_come_in_order_of_path(tmp_path: Path) -> None:
    for name in ("b/2", "a/9", "b/1", "c"):
        save(tmp_path / name)
    assert names(collect([tmp_path])) == ["9", "1", "2", "c"]


def test_paths_come_in_the_order_given_and_once(tmp_path: Path) -> None:
    second, first = save(tmp_path / "a"), save(tmp_path / "z")
    assert names(collect([first, second, tmp_path])) == ["z", "a"]


def test_a_folder_without_findings_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "full" / "f")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no finding in it.*finding\.save"):
        collect([tmp_path / "full", tmp_path / "empty"])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nope: no such folder"):
        collect(tmp_path / "nope")


def test_a_damaged_finding_is_not_skipped(tmp_path: Path) -> None:
    save(tmp_path / "a")
    (save(tmp_path / "b") / "finding.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        collect(tmp_path)
