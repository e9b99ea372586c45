"""The picture of the calibration page."""

from __future__ import annotations

from pathlib import Path

from layerscope.calibration import Calibration
from layerscope.calibration import calibrate as run


def calibrate(data: Path) -> Calibration:
    """Every instrument, on its plant."""
    return run(progress=False)
