"""The finding of `evaluate`, in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import percent, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

DRAWN = ("density", "points", "letters")
"""Groups of lines that are there to be drawn, or stand behind a mean."""


VAGUE = 0.3
"""An interval wider than this stays in the table: it is no sentence."""


@dataclass(frozen=True)
class SAEFinding(Finding):
    """Measures of one sparse autoencoder, with those of a random dictionary and of PCA beside them."""

    question: ClassVar[str] = "How well do a few latents stand for an activation?"

    def answer(self) -> str:
        """Explained variance and L0 beside the baselines, what the model keeps, the dead latents."""
        told = [self._explained(), self._kept(), self._dead(), *self._probed(), *self._absorbed()]
        return ". ".join(one for one in told if one) + "."

    def gist(self) -> str:
        """In one sentence."""
        line, l0 = self.line("explained_variance"), self.value("l0")
        said = f"{rounded(l0)} features at a time explain {percent(line['value'])} of the variance"
        if isnan(line["random"]):
            return f"{said}; no control was run."
        only = "" if line["value"] > max(line["random"], line["pca"]) else "no more than others: "
        return (
            f"{said}; {only}as many principal components {percent(line['pca'])}, random directions "
            f"{percent(line['random'])}."
        )

    @property
    def measures(self) -> pd.DataFrame:
        """A line for each measure, without what is only drawn."""
        return self.table[~self.table["group"].isin(DRAWN)]

    def line(self, measure: str) -> pd.Series[Any]:
        """The line of one measure.

        Args:
            measure: Its `key`, such as ``"explained_variance"``, or the beginning of its name.

        Raises:
            LookupError: there is none, or several begin like this.
        """
        lines = self.measures
        found = lines[lines["key"] == measure]
        if found.empty:
            found = lines[lines["measure"].str.startswith(measure)]
        if len(found) != 1:
            several = "several measures begin with" if len(found) else "no measure"
            raise LookupError(f"{several} {measure!r}; there are {', '.join(lines['key'])}")
        return found.iloc[0]

    def value(self, measure: str) -> float:
        """The value of one measure; see `line`."""
        return float(self.line(measure)["value"])

    def _has(self, key: str) -> bool:
        return bool((self.measures["key"] == key).any())

    def _explained(self) -> str:
        line, l0 = self.line("explained_variance"), self.value("l0")
        told = (
            f"{l0:.1f} of {self.latents:,} latents at a time explain {line['value']:z.1%} of the "
            f"variance{spoken(line['ci_low'], line['ci_high'], 'z.1%')}"
        )
        if isnan(line["random"]):
            return told
        rank = self.line("pca_rank")["value"]
        as_much = "no number of them" if isnan(rank) else f"{rank:.0f}"
        return (
            f"{told}; as many random directions {line['random']:z.1%}, as many principal components "
            f"{line['pca']:.1%} (as much takes {as_much})"
        )

    def _kept(self) -> str:
        if not self._has("ce_recovered_zero"):
            return ""
        zero, mean = self.line("ce_recovered_zero"), self.line("ce_recovered_mean")
        clean, now = self.value("ce_clean"), self.value("ce_replaced")
        return (
            f"With the reconstruction in its place the model's loss is {now:.3f} instead of "
            f"{clean:.3f} nats: {zero['value']:z.1%} recovered{_spoken(zero)} of what zeros cost, "
            f"{mean['value']:z.1%}{_spoken(mean)} of what the mean costs"
        )

    def _dead(self) -> str:
        line = self.line("dead_share")
        dead = round(line["value"] * self.latents)
        return f"{dead:,} of {self.latents:,} latents never fired in {line['n']:,} rows"

    def _probed(self) -> list[str]:
        lines = self.measures[self.measures["group"] == "probing"]
        if lines.empty:
            return []
        one = lines.iloc[0]
        told = (
            f"One latent tells a class of {one['part']} with a balanced accuracy of "
            f"{one['value']:.2f}{spoken(one['ci_low'], one['ci_high'], '.2f')}, one dimension of the "
            f"activation with {one['baseline']:.2f} (all of them {one['ceiling']:.2f}, shuffled "
            f"labels {one['null_mean']:.2f})"
        )
        return [told]

    def _absorbed(self) -> list[str]:
        lines = self.measures[self.measures["key"] == "absorption_fraction"]
        if lines.empty or isnan(lines.iloc[0]["value"]):
            return []
        one, letters = lines.iloc[0], int((self.table["group"] == "letters").sum())
        if one["ci_high"] - one["ci_low"] > VAGUE:
            return []
        told = f"Of {letters} first letter{'s' * (letters != 1)}, {one['value']:.1%} is absorbed"
        return [told + _spoken(one)]

    @property
    def latents(self) -> int:
        """How many latents there are."""
        return int(self.provenance.parameters["latents"])

    def figure(self) -> go.Figure:
        """What is kept beside the baselines; densities; norms of the codes; probing where measured."""
        from layerscope.analyses.sae.measuring.sae_figure import panels

        return panels(self)


def _spoken(line: pd.Series[Any]) -> str:
    return spoken(line["ci_low"], line["ci_high"], "z.1%")
