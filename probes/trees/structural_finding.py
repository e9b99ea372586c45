"""The finding of a structural probe: how much of each tree is in the geometry of its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.probes.finding import ProbeFinding
from layerscope.wording import capital, known, percent, place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class StructuralFinding(ProbeFinding):
    """Four scores for each site (``part == "score"``), and one sentence (``part == "word"``)."""

    question: ClassVar[str] = "Is the tree of a sentence in the geometry of its words?"

    def scores(self, measure: str = "uuas") -> pd.DataFrame:
        """The lines of one measure: ``uuas``, ``dspr``, ``root`` or ``nspr``."""
        there = sorted(set(self.table["measure"].dropna()))
        if measure not in there:
            raise LookupError(f"no measure {measure!r}; there are: {', '.join(there)}")
        return self.table[self.table["measure"] == measure].reset_index(drop=True)

    @property
    def best(self) -> dict[str, Any]:
        """The line of the highest UUAS."""
        lines = self.scores()
        line = lines.iloc[int(lines["value"].argmax())]
        return {str(column): value for column, value in line.items()}

    def answer(self) -> str:
        """The best site, and what it is to be held against."""
        best = self.best
        at = {m: self.scores(m).set_index("site").loc[best["site"]] for m in ("dspr", "root")}
        against = [
            f"{best['baseline']:.3f} for a chain of neighbours",
            f"{best['identity']:.3f} for untrained distances",
        ]
        if "control" in best:
            against.append(f"{best['control']:.3f} on random trees")
        if "twin" in best:
            against.append(f"{best['twin']:.3f} in the untrained twin")
        first = self.scores()
        first = first[first["layer"] == -1]
        if len(first) and best["site"] != first["site"].iloc[0]:
            against.append(f"{first['value'].iloc[0]:.3f} at the embeddings")
        where = "best read at" if len(self.scores()) > 1 else "read at"
        chain = ""
        if best["value"] <= best["baseline"]:
            chain = (
                "No layer does better than a chain of neighbours, so word order alone may do it. "
            )
        return (
            f"{chain}Dependency trees are {where} {best['site']}: {best['value']:.3f} of their edges "
            f"({best['ci_low']:.3f} to {best['ci_high']:.3f}), against {', '.join(against)}; rank "
            f"correlation of distances {at['dspr']['value']:.3f}, root found in "
            f"{at['root']['value']:.3f} of {best['n']:,} sentences in {best['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        best = self.best
        value, chain = percent(best["value"]), percent(best["baseline"])
        if not best["ci_low"] > best["baseline"]:
            return (
                f"No layer shows more of the links between words than linking neighbours does: {value} "
                f"against {chain}."
            )
        said = f"{place(best['site'])} shows {value} of the links between words"
        if known(best.get("twin")) and best["ci_low"] <= best["twin"]:
            return f"{capital(said)}, but an untrained model as much: {percent(best['twin'])}."
        untrained = (
            f", an untrained model {percent(best['twin'])}" if known(best.get("twin")) else ""
        )
        return f"{capital(said)}; linking neighbours gives {chain}{untrained}."

    def figure(self, measure: str = "uuas") -> go.Figure:
        """One score by layer above its controls; below, a sentence with its tree and the one found."""
        from layerscope.probes.trees.structural_figure import curves_and_arcs

        return curves_and_arcs(self.scores(measure), self.table[self.table["part"] == "word"])
