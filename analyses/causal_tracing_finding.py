"""The finding of `causal_tracing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding

if TYPE_CHECKING:
    import plotly.graph_objects as go

_NAMES = {
    "resid_post": "the output of block",
    "mlp_out": "MLPs around block",
    "attn_out": "attention around block",
}


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
        """The total effect, and the place of the greatest indirect effect of each kind."""
        table = self.table
        best = table.loc[table.groupby("kind", sort=False)["value"].idxmax()]
        parts = [
            f"{_NAMES.get(str(row.kind), f'{row.kind} of block')} {row.layer} at "
            f"{str(row.token).strip()!r} brings back {row.value:.3f} ({row.share:.0%})"
            for row in best.itertuples()
        ]
        first = table.iloc[0]
        return (
            f"Noise on the subject takes the answer from probability {first['clean']:.3f} to "
            f"{first['corrupt']:.3f} ({int(table['n'].max())} prompts). Of what is lost, "
            f"{'; '.join(parts)}."
        )

    def figure(self) -> go.Figure:
        """Layer by token, one map for each kind."""
        from layerscope.analyses.patching_figure import maps

        return maps(self.table.assign(metric=self.table["corrupt"] + self.table["value"]))
