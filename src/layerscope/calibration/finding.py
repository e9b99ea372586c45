"""What calibration returns: expected, measured, verdict, for every reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.calibration.words import AS_EXPECTED
from layerscope.finding import Finding

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, repr=False)
class Calibration(Finding):
    """One row per reading.

    Columns: ``instrument``, ``family``, ``planted``, ``quantity``; ``expected`` and ``measured``
    (NaN where they are words, which stand in ``expected_text`` and ``measured_text``), ``allowed``,
    ``unit``; ``off`` (deviation in units of what is allowed; infinite where nothing is allowed),
    ``verdict`` (``"as expected"``, ``"off"``, ``"failed"``), ``seconds`` (to this reading from the
    one before), ``source``.
    """

    question: ClassVar[str] = "Does every instrument read what is there?"

    @property
    def passed(self) -> bool:
        """Whether every reading is as expected."""
        return bool((self.table.verdict == AS_EXPECTED).all())

    def answer(self) -> str:
        """How many instruments read what was planted, and which do not."""
        from layerscope.calibration.words import answer

        return answer(self.table)

    def gist(self) -> str:
        """In one sentence."""
        from layerscope.calibration.words import gist

        return gist(self.table)

    def figure(self) -> go.Figure:
        """Every reading as a mark at its deviation, in units of what is allowed."""
        from layerscope.calibration.figure import figure

        return figure(self.table)

    def page(self) -> str:
        """The table of expected, measured and verdict, by family."""
        from layerscope.calibration.page import page

        return page(self.table)
