"""The finding of `generalisation_gap`: what ranks the gap, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.generalising.gap_table import BASELINES, INFORMATION
from layerscope.finding import Finding
from layerscope.wording import spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class GeneralisationGapFinding(Finding):
    """Information kept by hidden layers and held by weights, beside the generalisation gap."""

    question: ClassVar[str] = (
        "Do networks whose layers keep less about the input generalise better?"
    )

    def answer(self) -> str:
        """Rank correlation with the gap of I(X;Z|Y), of its sum with I(theta;S), and of baselines."""
        scopes = [s for s in ("all", "same data set") if (self.table["scope"] == s).any()]
        lines = self.correlation(scope=scopes[-1])
        among = "" if scopes[-1] == "all" else ", pairs on the same data set"
        told = [f"{self._told(lines, 'mc_given_label')}"]
        if (lines["measure"] == "sum_jensen").any():
            told.append(self._told(lines, "sum_jensen"))
        varied = set(lines.loc[lines["value"].notna(), "measure"])
        told += [self._told(lines, name) for name in BASELINES if name in varied]
        count = int(lines["n"].iloc[0])
        return (
            f"Kendall rank correlation with the gap (test minus train loss) among {count} networks{among}: "
            f"{'; '.join(told)}. The information is that of noise put around the layers, and a "
            "correlation in a family is no cause."
        )

    def gist(self) -> str:
        """In one sentence."""
        scopes = [s for s in ("all", "same data set") if (self.table["scope"] == s).any()]
        lines = self.correlation(scope=scopes[-1])
        part = lines[lines["measure"] == "mc_given_label"].sort_values("layer")
        last, count = part.iloc[-1], int(lines["n"].iloc[0])
        value = f"rank correlation {last['value']:z.2f}"
        if last["ci_low"] == last["ci_low"]:
            value += f", {last['ci_low']:z.2f} to {last['ci_high']:z.2f}"
        if last["ci_low"] > 0:
            said = "layers that keep less about the input go with a smaller gap"
        elif last["ci_high"] < 0:
            said = "layers that keep less about the input go with a larger gap"
        else:
            said = "keeping less about the input is not seen to go with a smaller gap"
        return f"Among {count} networks {said} ({value})."

    def _told(self, lines: pd.DataFrame, measure: str) -> str:
        """Every layer of a measure: the first, and the last with its interval."""
        part = lines[lines["measure"] == measure].sort_values("layer")
        name = (INFORMATION | BASELINES)[measure]
        last = part.iloc[-1]
        end = f"{last['value']:.2f}{spoken(last['ci_low'], last['ci_high'], '.2f')}"
        if len(part) == 1:
            return f"{name} {end}"
        return (
            f"{name} {part.iloc[0]['value']:.2f} at {part.iloc[0]['site']}, {end} at {last['site']}"
        )

    def correlation(
        self, *, scope: str = "all", coefficient: str = "kendall", gap: str = "loss"
    ) -> pd.DataFrame:
        """One line for each measure and layer.

        Args:
            scope: ``"all"``, or which pairs of networks are compared: see the column.
            coefficient: ``"kendall"`` or ``"pearson"``.
            gap: ``"loss"`` or ``"error"``.

        Raises:
            LookupError: there is no such correlation; the message names the scopes.
        """
        table = self.table[self.table["part"] == "correlation"]
        lines = table[table["scope"] == scope]
        lines = lines[(lines["coefficient"] == coefficient) & (lines["gap"] == gap)]
        if not len(lines):
            known = ", ".join(map(repr, table["scope"].unique()))
            raise LookupError(f"no {coefficient} of {gap} over {scope!r}; the scopes are {known}")
        return lines

    def networks(self, measure: str = "mc_given_label") -> pd.DataFrame:
        """One line for each network (and layer) of a measure, with its gap and settings.

        Raises:
            LookupError: a measure that is not there; the message names those that are.
        """
        table = self.table[self.table["part"] == "network"]
        lines = table[table["measure"] == measure]
        if not len(lines):
            raise LookupError(f"no {measure!r}; there are {', '.join(table['measure'].unique())}")
        return lines

    def figure(self, measure: str = "mc_given_label", colour: str | None = None) -> go.Figure:
        """Measure against gap, a dot for each network; below, the rank correlation of every measure.

        Args:
            measure: Which one is on the upper panels' axis.
            colour: The setting that colours the dots; None takes the first of few values.
        """
        from layerscope.analyses.generalising.gap_figure import panels

        settings: list[Any] = list(self.provenance.parameters.get("settings", []))
        return panels(self, measure, colour, settings)
