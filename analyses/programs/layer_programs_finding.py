"""The finding of `layer_programs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.material.shares import wilson
from layerscope.finding import Finding
from layerscope.wording import percent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


FEW = 20
"""Below this many wrong answers are counted rather than given in per cent."""


@dataclass(frozen=True)
class LayerProgramsFinding(Finding):
    """Programs of blocks that give the answer, beside what the same search finds for a wrong one.

    Columns: ``search`` (answer; control: for another prompt's answer; fixed: one program for all,
    chosen on the other half of the prompts), ``prompt``, ``text``, ``answer`` (the right one),
    ``baseline`` (whether the untouched model gives what is sought), ``solved`` (whether a program
    does), ``first`` (number of the try that first did, 0 is the untouched model), ``shortest``
    (blocks of the shortest that did), ``tries``, ``different`` (first tokens that the tries gave),
    ``guessing`` (chance to guess right in as many tries), ``blocks`` (of the model), and for each
    program of the Pareto set ``program``, ``length``, ``unique`` (different blocks in it),
    ``correct``, ``logprob`` and ``try``.
    """

    question: ClassVar[str] = "Would another order of the blocks give the answer?"

    def answer(self) -> str:
        """What the search mends, beside its control, and how short right programs can be."""
        own = each(self.table, "answer")
        wrong, right = own[~own["baseline"]], own[own["baseline"]]
        blocks = int(own["blocks"].iloc[0])
        parts = [f"The model answers {len(right)} of {len(own)} prompts right."]
        if len(wrong):
            parts.append(
                f"Of the others, {_share(wrong['solved'])} have a right program among "
                f"{int(own['tries'].max())} tries{self._against(wrong)}."
            )
        if len(right):
            shorter = right["shortest"] < blocks
            parts.append(
                f"Of those it knows, {_share(shorter)} keep their answer with fewer blocks "
                f"(median {right['shortest'].median():.0f} of {blocks})."
            )
        fixed = self.table[self.table["search"] == "fixed"]
        if len(fixed):
            parts.append(
                f"One program for all, chosen on other prompts, is right on {_share(fixed['correct'])}; "
                f"the untouched model on {len(right) / len(own):.0%}."
            )
        return " ".join(parts)

    def gist(self) -> str:
        """In one sentence."""
        own = each(self.table, "answer")
        wrong, right = own[~own["baseline"]], own[own["baseline"]]
        if not len(wrong):
            shorter = float((right["shortest"] < int(own["blocks"].iloc[0])).mean())
            return f"All {len(right)} prompts are answered right; {percent(shorter)} of them with fewer blocks too."
        found = int(wrong["solved"].sum())
        count = (
            f"{found} of {len(wrong)}"
            if len(wrong) < FEW
            else percent(found / len(wrong)) + " of the"
        )
        said = f"{count} wrong answers come right with the blocks in another order"
        against = self._controls(wrong)
        if not against:
            return f"{said}; no control was run."
        what, (most, high) = max(against.items(), key=lambda one: one[1])
        if wilson(found, len(wrong))[0] <= high:
            return f"{said}; not clearly more: {what} {percent(most)}."
        return f"{said}; {what} {percent(most)}."

    def figure(self) -> go.Figure:
        """Prompts solved by number of tries, above the control; and which blocks programs use."""
        from layerscope.analyses.programs.layer_programs_figure import curves_and_blocks

        return curves_and_blocks(self.table)

    def _controls(self, wrong: pd.DataFrame) -> dict[str, tuple[float, float]]:
        """How often answers are found without knowing anything, and how often at most."""
        control, found = each(self.table, "control"), dict[str, tuple[float, float]]()
        control = control[control["prompt"].isin(wrong["prompt"]) & ~control["baseline"]]
        if len(control):
            found["the same search for another answer finds"] = (
                float(control["solved"].mean()),
                wilson(int(control["solved"].sum()), len(control))[1],
            )
        if "guessing" in wrong and wrong["guessing"].notna().any():
            guessed = float(wrong["guessing"].mean())
            found["guessing would find"] = guessed, guessed
        return found

    def _against(self, wrong: pd.DataFrame) -> str:
        parts = []
        control = each(self.table, "control")
        control = control[control["prompt"].isin(wrong["prompt"]) & ~control["baseline"]]
        if len(control):
            parts.append(
                f"the same search for another prompt's answer finds {_share(control['solved'])}"
            )
        if "guessing" in wrong and wrong["guessing"].notna().any():
            parts.append(f"guessing would find {wrong['guessing'].mean():.0%}")
        return f"; {'; '.join(parts)}" if parts else ""


def each(table: pd.DataFrame, search: str) -> pd.DataFrame:
    """One line for each prompt of a search."""
    found = table[table["search"] == search].drop_duplicates("prompt")
    return found.astype({"baseline": bool, "solved": bool}) if len(found) else found


def _share(flags: pd.Series[bool]) -> str:
    count, n = int(flags.sum()), len(flags)
    low, high = wilson(count, n)
    return f"{count / n:.0%} ({low:.0%} to {high:.0%})"
