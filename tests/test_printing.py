"""Tables on the terminal."""

from __future__ import annotations

import pandas as pd
import pytest

from layerscope.cli.printing import cell, fitting, print_table

TABLE = pd.DataFrame({"site": ["blocks.0.resid_post"], "value": [0.0002], "ci_low": [0.123456]})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.500"), (0.0, "0.000"), (0.0002, "0.0002"), (-0.00123, "-0.0012"), (3, "3")],
)
def test_small_numbers_keep_two_digits(value: float, shown: str) -> None:
    assert cell(value) == shown


def test_later_columns_give_way() -> None:
    cells = {"site": ["blocks.0.resid_post"], "value": ["0.5"], "ci_low": ["0.1"]}
    assert fitting(cells, 100) == ["site", "value", "ci_low"]
    assert fitting(cells, 35) == ["site", "value"]
    assert fitting(cells, 10) == ["site"]


def test_names_are_whole_however_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "35")
    print_table(TABLE)
    printed = capsys.readouterr().out
    assert "blocks.0.resid_post" in printed
    assert "0.0002" in printed
    assert "no room for ci_low" in printed
    monkeypatch.delenv("COLUMNS")
    wide = TABLE.assign(site="blocks.0." + "x" * 100)
    print_table(wide)
    printed = capsys.readouterr().out
    assert wide["site"][0] in printed
    assert "0.123" in printed
    assert "no room" not in printed
