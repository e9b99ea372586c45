"""Every instrument of the toolkit measures something planted whose answer is known."""

from layerscope.calibration.calibrate import calibrate as calibrate
from layerscope.calibration.finding import Calibration as Calibration
from layerscope.calibration.instrument import Instrument as Instrument
from layerscope.calibration.instrument import Reading as Reading

__all__ = ["Calibration", "Instrument", "Reading", "calibrate"]
