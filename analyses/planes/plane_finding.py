"""The finding of `information_plane`: which layers compress, and whether the bins decide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.planes.compression import compression, means
from layerscope.analyses.planes.plane_answer import short, told
from layerscope.finding import Finding

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

USUAL = 1 / 30
"""Of the range of a layer: the width of bin in the first information planes."""
ORDER = ("noisy", "lossy", "binned", "kde")
"""What is told of first: mutual information where there is any."""


@dataclass(frozen=True)
class InformationPlaneFinding(Finding):
    """What every layer keeps about input and label, step by step and at several resolutions."""

    question: ClassVar[str] = "Do layers give up information about their input while they learn?"

    def answer(self) -> str:
        """Which layers compress, by how much, at which resolutions, and what the bins decide."""
        return told(self.compression(), self.settings()[0], self.clock)

    def gist(self) -> str:
        """In one sentence."""
        return short(self.compression(), self.settings()[0])

    def compression(self) -> pd.DataFrame:
        """How far x falls from its highest point to the last step, by site and resolution.

        Columns ``fall``, ``ci_low`` and ``ci_high`` over seeds, ``peak``, ``peak_step``, ``last``,
        ``verdict``: ``falls``, ``does not fall``, ``at the ceiling``, ``one snapshot``, ``not known``
        (unreliable points at the ends), ``refused`` (no x).
        """
        return compression(self.table)

    def means(self) -> pd.DataFrame:
        """Means over seeds; ``null`` is true where y is no more than with shuffled labels."""
        return means(self.table)

    def settings(self) -> tuple[str, ...]:
        """The resolutions that were measured, the one that is drawn and told of first."""
        first = self.table.drop_duplicates("setting")
        near = (first["share"].astype(float) / USUAL).map(_octaves)
        order = first.assign(rank=first["estimator"].map(ORDER.index), near=near)
        return tuple(order.sort_values(["rank", "near"], kind="stable")["setting"])

    @property
    def clock(self) -> str:
        """What a step counts: ``"epoch"`` or ``"step"``."""
        return str(self.provenance.parameters.get("clock", "step"))

    def figure(self, setting: str | None = None) -> go.Figure:
        """The plane with a slider of steps, above the curves over widths of bins and noise.

        Args:
            setting: The resolution whose plane is drawn, one of `settings`; None: the usual one.

        Raises:
            LookupError: a setting that was not measured.
        """
        from layerscope.analyses.planes.plane_figure import panels

        settings = self.settings()
        chosen = settings[0] if setting is None else setting
        if chosen not in settings:
            raise LookupError(f"no setting {chosen!r}; there are {', '.join(settings)}")
        accuracy = dict(self.provenance.parameters.get("accuracy", {}))
        return panels(self.table, chosen, self.clock, accuracy)


def _octaves(ratio: float) -> float:
    from math import isnan, log2

    return 99.0 if isnan(ratio) or ratio <= 0 else abs(log2(ratio))
