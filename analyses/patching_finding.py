"""The finding of `patching`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding

if TYPE_CHECKING:
    import plotly.graph_objects as go

_VERBS = {"denoise": "restores", "noise": "destroys"}


@dataclass(frozen=True)
class PatchingFinding(Finding):
    """How much of the right answer each activation carries from one run to another.

    Columns: ``direction`` (denoise: clean into corrupt; noise: corrupt into clean), ``site``,
    ``kind``, ``layer``, ``head``, ``position``, ``token``, ``value`` (share of the way from the run
    that was patched to the other one), ``ci_low`` and ``ci_high`` (95 %, pairs resampled),
    ``metric`` (its mean after the patch), ``clean`` and ``corrupt`` (without), ``n`` (pairs),
    ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which activations carry the answer, where and at which token?"

    def answer(self) -> str:
        """The strongest patch of each kind and direction."""
        table = self.table.dropna(subset=["value"])
        parts = []
        for way, part in table.groupby("direction", sort=False):
            best = part.loc[part.groupby("kind", sort=False)["value"].idxmax()]
            named = [
                f"{row.site} at {where(row)} {_VERBS[str(way)]} {row.value:.0%}{_ci(row)}"
                for row in best.itertuples()
            ]
            parts.append("; ".join(named))
        if not parts:
            return "The two runs do not differ in the metric, so there is nothing to restore."
        first = table.iloc[0]
        return (
            f"{'. '.join(parts)} of the difference in "
            f"{first['unit'].removeprefix('share of ')} ({first['corrupt']:.3g} corrupt, "
            f"{first['clean']:.3g} clean; {first['n']} pairs)."
        )

    def figure(self) -> go.Figure:
        """Layer by token, one map for each kind of site; head by layer where heads were patched."""
        from layerscope.analyses.patching_figure import maps

        return maps(self.table)


def where(row: Any) -> str:
    """The place of a line in words."""
    place = "all positions" if row.token == "all" else f"{str(row.token).strip()!r}"
    head = "" if missing(row.head) else f"head {row.head}, "
    return head + place


def _ci(row: Any) -> str:
    return "" if missing(row.ci_low) else f" ({row.ci_low:.0%} to {row.ci_high:.0%})"


def missing(value: Any) -> bool:
    """Whether a cell of a table is empty."""
    import pandas as pd

    return bool(pd.isna(value))
