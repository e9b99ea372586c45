"""The finding of an AST probe: how much of a labelled tree is in one subspace of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import capital, known, percent, place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class AstFinding(ProbeFinding):
    """Four scores for each site: ``f1``, ``precision``, ``recall`` and ``inner``."""

    question: ClassVar[str] = "Is the whole labelled tree of a text in one subspace of a layer?"

    def scores(self, measure: str = "f1") -> pd.DataFrame:
        """The lines of one measure; ``inner`` is the F1 of constituents of two words or more."""
        there = list(dict.fromkeys(self.table["measure"]))
        if measure not in there:
            raise LookupError(f"no measure {measure!r}; there are: {', '.join(there)}")
        return self.table[self.table["measure"] == measure].reset_index(drop=True)

    @property
    def best(self) -> dict[str, Any]:
        """The line of the highest F1."""
        lines = self.scores()
        line = lines.iloc[int(lines["value"].argmax())]
        return {str(column): value for column, value in line.items()}

    def answer(self) -> str:
        """The best site, and what it is to be held against."""
        best = self.best
        inner = self.scores("inner").set_index("site").loc[best["site"]]
        against = [f"{best['baseline']:.3f} without a model"]
        if "control" in best:
            against.append(f"{best['control']:.3f} with shuffled words")
        if "twin" in best:
            against.append(f"{best['twin']:.3f} in the untrained twin")
        first = self.scores()
        first = first[first["layer"] == -1]
        if len(first) and best["site"] != first["site"].iloc[0]:
            against.append(f"{first['value'].iloc[0]:.3f} at the embeddings")
        where = "best read at" if len(self.scores()) > 1 else "read at"
        plural = best["label"] + "s"
        return (
            f"{plural[0].upper()}{plural[1:]} are {where} {best['site']}: F1 of constituents "
            f"{best['value']:.3f} ({best['ci_low']:.3f} to {best['ci_high']:.3f}), against "
            f"{', '.join(against)}; {inner['value']:.3f} of those of two words or more; "
            f"{best['n']:,} texts in {best['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = self.best
        value, without = percent(best["value"]), percent(best["baseline"])
        what = f"{capital(str(best['label']))}s"
        if not best["ci_low"] > best["baseline"]:
            return f"{what} are not seen at any layer: {value} of their parts right, without a model {without}."
        said = f"{what} are read best at {place(best['site'])}: {value} of their parts right"
        if known(best.get("twin")) and best["ci_low"] <= best["twin"]:
            return f"{said}, but an untrained model does as well: {percent(best['twin'])}."
        untrained = f", untrained {percent(best['twin'])}" if known(best.get("twin")) else ""
        return f"{said}; without a model {without}{untrained}."

    def figure(self) -> go.Figure:
        """F1 by layer above its controls: of all constituents, and of those of two words or more."""
        from layerscope.probes.trees.ast_figure import two_curves

        return two_curves(self.scores("f1"), self.scores("inner"))
