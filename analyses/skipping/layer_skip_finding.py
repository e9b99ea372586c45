"""The finding of `layer_skip`: which blocks matter, to whom, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import capital, place, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

DONE = {"skip": "skipped", "repeat": "run twice", "swap": "swapped with the next"}


@dataclass(frozen=True)
class SkipFinding(Finding):
    """Effects of changing each block, on later blocks and on the output."""

    question: ClassVar[str] = "What changes when a layer is skipped, repeated or swapped?"

    def answer(self) -> str:
        """The block that matters most and least to the output, and how far effects reach."""
        change, part = (str(self.table[c].iloc[0]) for c in ("change", "part"))
        name = "the MLP" if part == "mlp" else "attention" if part == "attention" else "a block"
        told = [f"With {name} {DONE[change]}: {self._output()}"]
        far = self.matrix("later")
        rest = [float(far.loc[i, i + 1]) for i in far.index if i + 1 in far.columns]
        if rest and change == "skip":
            told.append(f"What the next block adds then changes by {_mean(rest):.0%} on average")
            told[-1] += self._direct()
        return ". ".join(told) + "."

    def gist(self) -> str:
        """In one sentence."""
        change, part = (str(self.table[c].iloc[0]) for c in ("change", "part"))
        lines, unit, what = self.curve("loss"), " nats a token", "the loss"
        if not len(lines):
            lines, unit, what = self.curve("output"), "", "the probabilities' distance"
        if not len(lines):
            return "What this does to the output was not measured."
        most, least = (lines.iloc[int(getattr(lines["value"], f)())] for f in ("argmax", "argmin"))
        site = {"mlp": "mlp_out", "attention": "attn_out"}.get(part, "resid_post")
        first, other = (place(f"blocks.{line['layer']}.{site}") for line in (most, least))
        how = {"skip": "without", "repeat": "running twice"}.get(change, "swapping")
        start = f"{capital(first)} matters most: {how} it {what}"
        if not most["value"] > 0:
            start = f"No block is needed: {how} {first} {what}"
        return f"{start} {_moved(most['value'])}{unit}; {how} {other} it {_moved(least['value'])}."

    def curve(self, measure: str = "loss", tokens: str = "all") -> pd.DataFrame:
        """Lines of one effect on the output: ``loss``, ``output`` or ``divergence``."""
        chosen = (self.table["measure"] == measure) & (self.table["tokens"] == tokens)
        return self.table[chosen].sort_values("layer")

    def matrix(
        self, measure: str = "later", tokens: str = "all", value: str = "value"
    ) -> pd.DataFrame:
        """Effects on later blocks: one row for each changed block, one column for each later one.

        Args:
            measure: ``later`` (passed on by the blocks between) or ``direct``.
            tokens: ``all`` or ``future``.
            value: ``value`` (mean over tokens), ``max``, or a twin's column.
        """
        chosen = (self.table["measure"] == measure) & (self.table["tokens"] == tokens)
        lines: pd.DataFrame = self.table[chosen]
        return lines.pivot(index="layer", columns="later", values=value)

    def _output(self) -> str:
        lines = self.curve("loss")
        unit = "nats/token of loss"
        if not len(lines):
            lines, unit = self.curve("output"), "distance of the probabilities"
        if not len(lines):
            return "no output was measured"
        most, least = (lines.iloc[int(getattr(lines["value"], f)())] for f in ("argmax", "argmin"))
        spread = spoken(most["ci_low"], most["ci_high"], ".3g", before=", ")
        return f"block {most['layer']} matters most ({most['value']:+.3g} {unit}{spread}), block {least['layer']} least ({least['value']:+.3g})"

    def _direct(self) -> str:
        near = self.matrix("direct")
        if not len(near):
            return ""
        far = self.matrix("later")
        pairs = [(i, j) for i in near.index for j in near.columns if j > i + 1]
        if not pairs:
            return ""
        passed = _mean([float(far.loc[i, j]) for i, j in pairs])
        straight = _mean([float(near.loc[i, j]) for i, j in pairs])
        return (
            f"; blocks further on by {passed:.0%}, and by {straight:.0%} where nothing else changes "
            "than the skipped block's part of their input"
        )

    def figure(self) -> go.Figure:
        """Effects on the output by block, above the map of effects on later blocks."""
        from layerscope.analyses.skipping.layer_skip_figure import curves_and_map

        return curves_and_map(self)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _moved(value: float) -> str:
    return f"{'rises' if value >= 0 else 'falls'} by {rounded(abs(value))}"
