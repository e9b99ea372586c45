"""The finding of `attention_modes`, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.activity.attention_table import MODES
from layerscope.finding import Finding

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEANINGS = {
    "I": "averages over most keys",
    "II": "reads a large group of keys",
    "III": "reads a small group of keys",
    "IV": "picks a few keys",
}
"""Operating mode -> what such a head does."""


@dataclass(frozen=True)
class AttentionModesFinding(Finding):
    """The operating mode of each head: how many of the visible keys hold most of its attention."""

    question: ClassVar[str] = "Do attention heads average over everything, or pick a few keys?"

    def answer(self) -> str:
        """How many heads are in each mode, how many are sinks, and the extremes."""
        heads = self.heads()
        counts = heads["mode"].value_counts()
        shares = "; ".join(
            f"{counts.get(mode, 0)} in mode {mode} ({MEANINGS[mode]})" for mode in MODES
        )
        told = [f"Of {len(heads)} heads, {shares}"]
        sinks = heads[heads["is_sink"]]
        if len(sinks):
            moved = int((sinks["mode"] != sinks["rest_mode"]).sum())
            told.append(
                f"{len(sinks)} put much of their attention on a sink (first position or special "
                f"token); without it {moved} of them are in another mode"
            )
        narrow, wide = (heads.loc[heads["value"].agg(end)] for end in ("idxmin", "idxmax"))
        told.append(
            f"90 % of the attention is on {_told(narrow)} to {_told(wide)} of the visible keys"
            if narrow["baseline"] == 0.9
            else f"Most of the attention is on {_told(narrow)} to {_told(wide)} of the visible keys"
        )
        if "twin" in heads:
            told.append(f"Untrained heads: {heads['twin'].min():.0%} to {heads['twin'].max():.0%}")
        return ". ".join(told) + "."

    def gist(self) -> str:
        """In one sentence."""
        heads = self.heads()
        few, wide = (int((heads["mode"] == mode).sum()) for mode in ("IV", "I"))
        said = (
            f"Of {len(heads)} attention heads {few} pick a few tokens and {wide} average over most"
        )
        if "twin_mode" not in heads or heads["twin_mode"].isna().all():
            return f"{said}."
        twins = (heads["twin_mode"] == "IV").sum(), (heads["twin_mode"] == "I").sum()
        return f"{said}; in an untrained model it is {twins[0]} and {twins[1]}."

    def heads(self) -> pd.DataFrame:
        """One line for each head."""
        return self.table[self.table["part"] == "head"]

    def histogram(self, keys: str = "all") -> pd.DataFrame:
        """Shares of queries by how many of their visible keys they need.

        Args:
            keys: ``all``, or ``rest`` for those that are no sinks.
        """
        return self.table[(self.table["part"] == "histogram") & (self.table["keys"] == keys)]

    def figure(self) -> go.Figure:
        """Heads by layer coloured by mode, with and without sinks, above the spread in each layer."""
        from layerscope.analyses.activity.attention_modes_figure import modes_and_spread

        return modes_and_spread(self)


def _told(head: pd.Series[Any]) -> str:
    return f"{head['value']:.1%} (head {head['head']:.0f} of block {head['layer']})"
