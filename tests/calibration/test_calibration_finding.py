"""What a calibration shows: its answer, its figure, its page, and the same after saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layerscope.calibration import Calibration, Instrument, Reading
from layerscope.calibration.calibrate import as_finding, measured
from layerscope.calibration.figure import EDGE
from layerscope.calibration.words import number
from layerscope.finding import Finding


@pytest.fixture
def finding() -> Calibration:
    readings = {
        "steady": [Reading("share", 0.5, 0.52, 0.04, "bits"), Reading("words", "1 2", "1 2")],
        "loose": [Reading("<b>far</b>", 1.0, 0.2, 0.1), Reading("near", 1.0, 1.0)],
    }

    def broken(seed: int) -> list[Reading]:
        raise ValueError("a <script> & a half")

    instruments = [
        Instrument(name, family, "Planted & known.", "closed form", lambda seed, own=own: own)
        for (name, own), family in zip(
            readings.items(), ("What if", "Sparse dictionaries"), strict=True
        )
    ]
    instruments.append(Instrument("broken", "Sparse dictionaries", "None.", "none", broken))
    return as_finding([row for _, own in measured(instruments, 0) for row in own], None, 0, 1.0)


def test_the_answer_names_who_is_off(finding: Calibration) -> None:
    said = finding.answer()
    assert said.startswith("1 of 3 instruments read what was planted; off: loose;")
    assert "failed with an error: broken" in said
    assert "4 readings" in said
    fine = replace(finding, table=finding.table[finding.table["instrument"] == "steady"])
    assert fine.answer().startswith("The instrument reads what was planted: 2 readings, none off")


def test_every_reading_is_a_mark_where_it_should_be(finding: Calibration) -> None:
    figure = finding.figure()
    marks = {trace.name: list(trace.x) for trace in figure.data}
    assert marks == {
        "as expected, exactly": [0.0, 0.0],
        "as expected, within what is allowed": [pytest.approx(0.5)],
        "off": [-EDGE],
        "failed": [EDGE],
    }
    assert sum(map(len, marks.values())) == len(finding.table)
    symbols = [trace.marker.symbol for trace in figure.data]
    assert len(set(symbols)) == 4
    labels = list(figure.layout.yaxis.ticktext)
    assert labels[:2] == ["<b>What if</b>", "<b>Sparse dictionaries</b>"]
    lines = dict(zip(labels, figure.layout.yaxis.tickvals, strict=True))
    order = ["<b>What if</b>", "steady", "<b>Sparse dictionaries</b>", "loose", "broken"]
    assert sorted(lines, key=lines.__getitem__) == order
    hovers = [text for trace in figure.data for text in trace.text]
    assert any("&lt;b&gt;far&lt;/b&gt;" in text for text in hovers)


def test_the_page_says_expected_measured_and_verdict(finding: Calibration) -> None:
    page = finding.page()
    assert "<td>0.5 ± 0.04 bits</td><td>0.52 bits</td>" in page
    assert "<td>1 2</td><td>1 2</td>" in page
    assert "&lt;b&gt;far&lt;/b&gt;" in page
    assert "ValueError: a &lt;script&gt; &amp; a half" in page
    assert "<script" not in page
    for sign, verdict in (("✓", "as expected"), ("✗", "off"), ("!", "failed")):
        assert f'<i aria-hidden="true">{sign}</i>{verdict}</span>' in page
    assert page.count("<tr><td") == len(finding.table)
    assert "What if<span>2 of 2 as expected</span>" in page
    assert "Sparse dictionaries<span>1 of 3 as expected</span>" in page


def test_saved_and_loaded_it_says_and_shows_the_same(finding: Calibration, tmp_path: Path) -> None:
    again = Finding.load(finding.save(tmp_path / "calibration"))
    assert isinstance(again, Calibration)
    assert again.answer() == finding.answer()
    assert again.page() == finding.page()
    assert again.figure().to_json() == finding.figure().to_json()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3.0, "3"),
        (0.0, "0"),
        (0.84134, "0.8413"),
        (0.5, "0.5"),
        (1e-5, "1e-05"),
        (-4.2e-17, "-4e-17"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_as_people_write_them(value: float, said: str) -> None:
    assert number(value) == said
