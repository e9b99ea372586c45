"""The finding of `patching`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.patches.patching_words import carried, held_at, is_stream, named, strongest
from layerscope.finding import Finding
from layerscope.wording import capital, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

_VERBS = {"denoise": "restores", "noise": "destroys"}
_WAYS = {"denoise": "Clean into corrupt", "noise": "Corrupt into clean"}


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
        """Where the stream carries the answer, and the strongest patch of every other kind."""
        table = self.table.dropna(subset=["value"])
        if not len(table):
            return "The two runs do not differ in the metric, so there is nothing to restore."
        parts = []
        for way, part in table.groupby("direction", sort=False):
            kinds = [here for _, here in part.groupby("kind", sort=False)]
            streams = [carried(here) for here in kinds if is_stream(here["kind"].iloc[0])]
            others = [strongest(here) for here in kinds if not is_stream(here["kind"].iloc[0])]
            most = [f"most by itself {_VERBS[str(way)]} {', '.join(others)}"] if others else []
            parts.append(f"{_WAYS[str(way)]}: {'; '.join([*streams, *most])}.")
        first = table.iloc[0]
        return (
            f"{' '.join(parts)} All of it is {first['corrupt']:.3g} (corrupt) to "
            f"{first['clean']:.3g} (clean) in {first['unit'].removeprefix('share of ')}, mean of "
            f"{first['n']} pairs."
        )

    def gist(self) -> str:
        """In one sentence."""
        table = self.table.dropna(subset=["value"])
        if not len(table):
            return "The two runs do not differ in the answer, so there is nothing to restore."
        part = table[table["direction"] == table["direction"].iloc[0]]
        verb = _VERBS[str(part["direction"].iloc[0])]
        single = part[~part["kind"].map(is_stream)]
        best = (single if len(single) else part).iloc[
            int((single if len(single) else part)["value"].argmax())
        ]
        held = held_at(part[part["kind"].map(is_stream)])
        most = f"{named(best)} {verb} {percent(best['value'])} of the answer"
        return f"{held}; {most}." if held else f"{capital(most)}, the most of any part."

    def figure(self) -> go.Figure:
        """Layer by token, one map for each kind of site; head by layer where heads were patched."""
        from layerscope.analyses.patches.patching_figure import maps

        return maps(self.table)
