"""The finding of `sparsity`, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import percent, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

OWN = ("neurons", "product", "units")
"""Parts that a layer's answer is about; `gate` and `up` are beside it."""


@dataclass(frozen=True)
class SparsityFinding(Finding):
    """Shares of active units by layer and definition, dead and massive units, firing rates."""

    question: ClassVar[str] = "How few neurons are active at a time?"

    def answer(self) -> str:
        """The sparsest and the densest layer, how many neurons carry the energy, and the dead."""
        told = [self._active(), self._energy(), self._dead(), self._largest()]
        functional = self.curve("functional")
        if len(functional):
            last = functional.iloc[-1]
            told.append(
                f"Zeroing the smallest {last['value']:.0%} at {_where(last)} costs no more than "
                f"{last['level']:.0%} of the loss; as many random ones cost "
                f"{last['control'] / last['loss']:+.0%}"
            )
        return ". ".join(told) + "."

    def gist(self) -> str:
        """In one sentence."""
        lines = self.curve("energy", 0.9)
        low, high = (lines.loc[lines["value"].agg(end)] for end in ("idxmin", "idxmax"))
        least, most = percent(low["value"]), percent(high["value"])
        between = f"{least} (block {low['layer']})"
        if len(lines) > 1:
            between += f" to {most} (block {high['layer']})"
        base = percent(float(lines["baseline"].iloc[0]))
        return f"90 % of a token's activity is in {between} of the neurons; of random numbers in {base}."

    def curve(
        self, measure: str = "active", level: float | None = None, part: str | None = None
    ) -> pd.DataFrame:
        """Lines of one measure, layer by layer.

        Args:
            measure: ``active``, ``energy``, ``hoyer``, ``treves_rolls``, ``dead``, ``rate``,
                ``massive``, ``largest`` or ``functional``.
            level: Such as 0.9 of ``energy``; None: all.
            part: ``neurons``, ``product``, ``gate``, ``up``, ``units``; None: a layer's own
                neurons, whatever they are called.
        """
        lines = self.table[self.table["measure"] == measure]
        if measure != "functional":
            lines = lines[lines["part"].isin(OWN if part is None else (part,))]
        return lines if level is None else lines[(lines["level"] - level).abs() < 1e-12]

    @property
    def exact_zeros(self) -> bool:
        """Whether some layer's own neurons are often exactly zero, as after a ReLU."""
        return bool((self.curve("active", 0)["value"] < 0.999).any())

    def _active(self) -> str:
        level = 0.0 if self.exact_zeros else 0.1
        lines = self.curve("active", level)
        what = "are not zero" if level == 0 else "exceed a tenth of their token's root mean square"
        return f"{_range(lines)} of the neurons {what} at a token"

    def _energy(self) -> str:
        lines = self.curve("energy", 0.9)
        base = float(lines["baseline"].iloc[0])
        return (
            f"90 % of the energy is carried by {_range(lines)} of them (dense random numbers: "
            f"{base:.0%})"
        )

    def _dead(self) -> str:
        lines = self.curve("dead", 0.0 if self.exact_zeros else 0.1)
        dead, all_ = int(lines["count"].sum()), int(lines["width"].sum())
        bound = float(lines["bound"].iloc[0])
        rest = (
            f" (each fires at fewer than {bound:.1g} of such tokens, with 95 % confidence)"
            if dead
            else ""
        )
        return f"{dead:,} of {all_:,} neurons never fired in {lines['n'].iloc[0]:,} tokens{rest}"

    def _largest(self) -> str:
        count = int(self.curve("massive")["count"].sum())
        line = self.curve("largest").sort_values("value").iloc[-1]
        return (
            f"{count:,} neurons exceed {line['level']:g} times the usual; the largest, neuron "
            f"{line['neuron']:.0f} of {_where(line)}, {line['value']:,.0f} times, at token "
            f"{line['token']!r}"
        )

    def figure(self) -> go.Figure:
        """Active neurons and energy by layer, above the firing rates of all neurons."""
        from layerscope.analyses.activity.sparsity_figure import curves_and_rates

        return curves_and_rates(self)


def _where(line: pd.Series[Any]) -> str:
    return str(line["site"]).removesuffix(".mlp_act").replace("blocks.", "block ")


def _range(lines: pd.DataFrame) -> str:
    """Both ends over the layers, with where they are."""
    low, high = (lines.loc[lines["value"].agg(end)] for end in ("idxmin", "idxmax"))
    told = spoken(low["ci_low"], low["ci_high"], ".1%", before=", ")
    if len(lines) == 1:
        return f"{low['value']:.1%}{told.replace(', ', ' (')}{')' if told else ''}"
    return f"{low['value']:.1%} ({_where(low)}{told}) to {high['value']:.1%} ({_where(high)})"
