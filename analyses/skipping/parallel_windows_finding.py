"""The finding of `parallel_windows`, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import rounded

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class WindowsFinding(Finding):
    """For every window of blocks: the output when all of them read what the first one reads.

    Columns: ``layer`` (first block), ``blocks`` (how many), ``value`` (KL of the changed from the
    unchanged prediction, nats, mean over tokens) with ``ci_low`` and ``ci_high``, ``control`` (KL
    when the stream after the window is moved as far in a random direction), ``loss`` (change of
    loss, nats/token), ``moved`` (how far the stream after the window moves, relative to what the
    window adds), ``predicted`` (that error to first order: interactions of pairs of blocks),
    ``noise``, ``n``, ``n_groups``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which layers could work side by side?"

    def answer(self) -> str:
        """The longest window that hardly changes the prediction, and the most harmful pair."""
        pairs = self.table[self.table["blocks"] == 2]
        worst, best = (pairs.iloc[int(getattr(pairs["value"], f)())] for f in ("argmax", "argmin"))
        text = (
            f"Two blocks side by side change the prediction least at blocks {best['layer']} and "
            f"{best['layer'] + 1} (KL {best['value']:.3g} nats, {best['ci_low']:.3g} to "
            f"{best['ci_high']:.3g}; a random change of the same size: {best['control']:.3g}) and "
            f"most at {worst['layer']} and {worst['layer'] + 1} ({worst['value']:.3g})"
        )
        mild = self.table[self.table["value"] < 0.1]
        if len(mild):
            longest = mild.iloc[int(mild["blocks"].argmax())]
            last = longest["layer"] + longest["blocks"] - 1
            text += f"; the longest window below 0.1 nats is {longest['layer']} to {last}"
        return text + "."

    def gist(self) -> str:
        """In one sentence."""
        pairs = self.table[self.table["blocks"] == 2]
        worst, best = (pairs.iloc[int(getattr(pairs["value"], f)())] for f in ("argmax", "argmin"))
        first, other = (
            f"{int(line['layer'])} and {int(line['layer']) + 1}" for line in (best, worst)
        )
        return (
            f"Run side by side, blocks {first} change the output least: {rounded(best['value'])} nats, a "
            f"random change of that size {rounded(best['control'])}; {other} most: {rounded(worst['value'])}."
        )

    def figure(self) -> go.Figure:
        """A map of all windows, and the control as another one."""
        from layerscope.analyses.skipping.parallel_windows_figure import windows_map

        return windows_map(self.table)
