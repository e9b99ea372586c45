"""Every instrument reads what was planted: the whole of `layerscope calibrate`, one by one."""

from __future__ import annotations

import pytest

from layerscope.calibration import Instrument, calibrate
from layerscope.calibration.instruments.catalogue import CATALOGUE


@pytest.mark.parametrize("instrument", CATALOGUE, ids=lambda one: one.name)
def test_reads_what_is_planted(instrument: Instrument) -> None:
    table = calibrate(instrument.name, progress=False).table
    wrong = table[table["verdict"] != "as expected"]
    columns = ["quantity", "expected", "measured", "expected_text", "measured_text", "allowed"]
    assert wrong.empty, wrong[columns].to_string()
