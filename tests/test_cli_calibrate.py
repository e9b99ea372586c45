"""`layerscope calibrate` as typed: the table, the exit code, the list, JSON, files."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layerscope.calibration import Instrument, Reading
from layerscope.cli import app
from layerscope.finding import Finding

run = CliRunner().invoke


@pytest.fixture
def one_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instruments in the place of all, of which one is off."""

    def made(name: str, measured: float) -> Instrument:
        readings = [Reading(f"share [of] {name}", 0.5, measured, 0.1)]
        return Instrument(name, "What if", f"Planted for {name}.", "made", lambda seed: readings)

    # By its full name: the package shows the function of that name instead of the module.
    module = importlib.import_module("layerscope.calibration.calibrate")
    monkeypatch.setattr(module, "CATALOGUE", (made("good", 0.55), made("bad", 0.8)))


def test_the_table_and_the_exit_code(tmp_path: Path) -> None:
    out, page = tmp_path / "found", tmp_path / "page.html"
    result = run(app, ["calibrate", "depth_use", "--out", str(out), "--report", str(page)])
    assert result.exit_code == 0, result.output
    assert "What if" in result.output
    assert "depth_use  Blocks that add 1, 0.5, 0.2 and 0 times the stream" in result.output
    line = next(x for x in result.output.splitlines() if "norm added by block 2" in x)
    assert line.split("over the stream's")[1].split() == [
        "0.2",
        "±",
        "1e-06",
        "0.2",
        "as",
        "expected",
    ]
    assert "The instrument reads what was planted" in result.output
    assert Finding.load(out).answer() in result.output
    assert "Does every instrument read what is there?" in page.read_text()


def test_what_is_off_is_exit_code_3(one_is_off: None) -> None:
    result = run(app, ["calibrate"])
    assert result.exit_code == 3
    assert "✓" in result.output
    assert "✗  share [of] bad" in result.output
    assert "1 of 2 instruments read what was planted; off: bad" in result.output
    assert run(app, ["calibrate", "good"]).exit_code == 0


def test_quietly_only_what_is_off_is_shown(one_is_off: None) -> None:
    result = run(app, ["calibrate", "-q"])
    assert "share [of] bad" in result.output
    assert "share [of] good" not in result.output
    assert result.output.splitlines()[-1].startswith("1 of 2 instruments")


def test_json_is_one_document(one_is_off: None) -> None:
    result = run(app, ["calibrate", "--json"])
    body = json.loads(result.output)
    assert result.exit_code == 3
    assert [row["verdict"] for row in body["table"]] == ["as expected", "off"]
    assert body["answer"].startswith("1 of 2")


def test_the_list_measures_nothing(one_is_off: None) -> None:
    result = run(app, ["calibrate", "--list"])
    assert result.exit_code == 0
    assert "good  Planted for good." in result.output
    assert "share" not in result.output
    body = json.loads(run(app, ["calibrate", "--list", "--json"]).output)
    assert [one["name"] for one in body["instruments"]] == ["good", "bad"]


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    result = run(app, ["calibrate", "layer_skp"])
    assert result.exit_code == 1
    assert "did you mean 'layer_skip'" in str(result.exception)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(
    columns: int, one_is_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    result = run(app, ["calibrate", "bad"])
    assert "✗" in result.output
    seen = re.sub(
        r"\x1b\[[0-9;?]*[A-Za-z]", "", result.output
    )  # the line that says what is measuring
    assert max(map(len, re.split(r"[\r\n]", seen))) <= columns
    assert ("verdict" in result.output) == (columns > 70)


def test_without_a_terminal_every_line_is_whole(one_is_off: None) -> None:
    result = run(app, ["calibrate", "good"])
    assert "good  Planted for good." in result.output
    assert "\x1b" not in result.output
