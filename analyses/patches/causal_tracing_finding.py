"""The finding of `causal_tracing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.patches.patching_words import carried, is_stream, named, strongest
from layerscope.finding import Finding
from layerscope.wording import percent

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class CausalTracingFinding(Finding):
    """Where the state that determines an answer is, layer by token.

    Columns: ``site`` (centre of the window), ``kind``, ``layer``, ``position``, ``token`` (with *:
    of the subject), ``window`` (blocks), ``value`` (indirect effect: probability of the answer with
    noise and one clean state, minus with noise alone), ``ci_low`` and ``ci_high`` (95 %, prompts
    resampled), ``share`` (of the total effect), ``total`` (probability without noise minus with
    noise), ``clean``, ``corrupt``, ``subject``, ``n`` (prompts), ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Where is the state that determines the answer?"

    def answer(self) -> str:
        """The total effect, and where its cause is."""
        table = self.table
        parts = []
        for kind, part in table.groupby("kind", sort=False):
            if is_stream(kind):
                parts.append(carried(part, "share"))
            else:
                width = int(part["window"].iloc[0])
                around = f" ({width} blocks around)" if width > 1 else ""
                parts.append(f"most of any {kind} has {strongest(part, 'share')}{around}")
        first = table.iloc[0]
        return (
            f"Noise on the subject takes the answer from probability {first['clean']:.3f} to "
            f"{first['corrupt']:.3f} ({int(table['n'].max())} prompts). Of what is lost, "
            f"{'; '.join(parts)}."
        )

    def gist(self) -> str:
        """In one sentence."""
        table = self.table
        single = table[~table["kind"].map(is_stream)]
        pool = single if len(single) else table
        best, first = pool.iloc[int(pool["share"].argmax())], table.iloc[0]
        said = (
            f"Noise on the subject takes the answer from {percent(first['clean'])} to "
            f"{percent(first['corrupt'])}"
        )
        if not first["clean"] > first["corrupt"]:
            return f"{said}, so there is nothing to bring back."
        cell = named(best)
        if best["window"] > 1:
            cell = cell.replace(" of block ", " around block ")
        return f"{said}; {cell} brings back {percent(best['share'])} of that."

    def figure(self) -> go.Figure:
        """Layer by token, one map for each kind."""
        from layerscope.analyses.patches.patching_figure import maps

        return maps(self.table.assign(metric=self.table["corrupt"] + self.table["value"]))
