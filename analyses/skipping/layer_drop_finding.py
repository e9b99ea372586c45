"""The finding of `layer_drop`: loss and time of the reduced models, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import known, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "order",
    "draw",
    "dropped",
    "which",
    "value",
    "ci_low",
    "ci_high",
    "added",
    "added_low",
    "added_high",
    "null_mean",
    "null_sd",
    "baseline",
    "time",
    "time_low",
    "time_high",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/layer_similarity.md says what each one means."""
PARTS = {
    "block": "blocks",
    "attention": "attention layers",
    "mlp": "MLPs",
    "joint": "attention layers and MLPs",
}
MILD = 0.1
"""Nats per token that the answer calls little."""


@dataclass(frozen=True)
class DropFinding(Finding):
    """Loss of a model without 1, 2, 3, ... of its parts, beside random choices and the time saved."""

    question: ClassVar[str] = "How many layers can be left out?"

    def answer(self) -> str:
        """How many parts can go for little loss, what a random choice costs, what time is saved."""
        part = PARTS[str(self.table["part"].iloc[0])]
        chosen = self.table[~self.table["order"].isin(["none", "random"])]
        mild = chosen[chosen["added"] < MILD]
        if len(mild):
            most = mild[mild["dropped"] == mild["dropped"].max()]
            best = most.iloc[int(most["added"].argmin())]
            text = f"{best['dropped']} of the {part} can go for {best['added']:+.3f} nats/token"
        else:
            best = chosen.iloc[int(chosen["added"].argmin())]
            text = (
                f"None of the {part} can go for less than {MILD} nats/token: the best choice, "
                f"{best['dropped']} of them, costs {best['added']:+.3f}"
            )
        spread = spoken(best["added_low"], best["added_high"], ".3f", before="")
        text += f" ({spread}{'; ' if spread else ''}{best['order']}: {best['which']}; loss of the whole model {best['baseline']:.3f})"
        if best["null_mean"] == best["null_mean"]:
            text += f", where a random choice costs {best['null_mean'] - best['baseline']:+.3f}"
        if "time" in best and best["time"] == best["time"]:
            text += f"; a pass then takes {best['time']:.0%} of the time"
        return text + "."

    def gist(self) -> str:
        """In one sentence."""
        part = PARTS[str(self.table["part"].iloc[0])]
        chosen = self.table[~self.table["order"].isin(["none", "random"])]
        mild = chosen[chosen["added"] < MILD]
        pool = mild[mild["dropped"] == mild["dropped"].max()] if len(mild) else chosen
        best = pool.iloc[int(pool["added"].argmin())]
        cost = f"{rounded(best['added'])} nats more loss a token"
        said = f"{best['dropped']} of the {part} can be left out for {cost}"
        if not len(mild):
            said = (
                f"None of the {part} can be left out cheaply: {best['dropped']} of them cost {cost}"
            )
        random = best["null_mean"] - best["baseline"]
        if not known(random):
            return f"{said}; no control was run."
        verb = "costs" if best["added"] < random else "costs no more:"
        return f"{said}; a random choice {verb} {rounded(random)}."

    def curve(self, order: str) -> pd.DataFrame:
        """Lines of one order, from the whole model on."""
        lines = self.table[self.table["order"].isin([order, "none"])]
        return lines.sort_values(["dropped"])

    def figure(self) -> go.Figure:
        """Loss by number of parts left out, above the time that is left."""
        from layerscope.analyses.skipping.layer_drop_figure import losses_and_time

        return losses_and_time(self)
