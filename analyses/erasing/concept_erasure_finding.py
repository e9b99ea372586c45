"""The finding of `concept_erasure`: what can be read, and whether the model used it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import called, capital, known, place, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "label",
    "method",
    "measure",
    "scope",
    "value",
    "ci_low",
    "ci_high",
    "before",
    "after",
    "balanced_before",
    "balanced_after",
    "baseline",
    "null_mean",
    "null_sd",
    "matched_mean",
    "matched_sd",
    "beyond",
    "beyond_low",
    "beyond_high",
    "rank",
    "width",
    "removed",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/concept_erasure.md says what each one means."""
SCRUBBED = "scrubbing"
AS_GIVEN = "as given"
"""Unit of a loss of the caller's own."""
FEW_GROUPS = 20
"""Fewer groups than these make intervals too narrow."""


@dataclass(frozen=True)
class ConceptErasureFinding(Finding):
    """For each site and eraser: what a probe loses, and what the model loses."""

    question: ClassVar[str] = "Is what can be read off a layer also used by the model?"

    def answer(self) -> str:
        """What is decodable, what erasing it costs the model, and what the controls cost."""
        best, used, most = self._spoken()
        text = f"{_decodable(best)} {_used(most)}{self._verdict(used, _readable(best))}"
        groups = int(min(best["n_groups"], most["n_groups"]))
        if groups < FEW_GROUPS:
            text += f" {groups} groups are few: the intervals are likely too narrow."
        return text

    def _spoken(self) -> tuple[pd.Series[Any], pd.DataFrame, pd.Series[Any]]:
        """Of one eraser: where the label is read best, all losses, and the one most beyond its control."""
        read = self.part("decodable")
        method = "leace" if (read["method"] == "leace").any() else str(read["method"].iloc[0])
        read = read[read["method"] == method]
        best = read.iloc[int(read["before"].argmax())]
        used = self.losses(method)
        most = used.iloc[int(used["beyond"].fillna(-1e300).argmax())]
        return best, used, most

    def gist(self) -> str:
        """In one sentence."""
        best, _, most = self._spoken()
        name = capital(called(best["label"]))
        if not _readable(best):
            said = f"{name} cannot be shown to be read off any layer"
            return (
                f"{said}."
                if not _clear(most)
                else f"{said}, but erasing it costs the model something."
            )
        control = max(
            (most["null_mean"], most["matched_mean"]), key=lambda x: x if known(x) else -1e300
        )
        cost = f"erasing it at {place(most['site'])} adds {rounded(most['value'])} to the loss"
        if known(control):
            cost += f", random directions {rounded(control)}"
        verdict = " and is used" if _clear(most) else "; its use is not seen"
        return f"{name} can be read at {place(best['site'])}{verdict}: {cost}."

    def part(self, name: str) -> pd.DataFrame:
        """Lines of ``decodable``, ``used`` or ``rederived``."""
        return self.table[self.table["part"] == name]

    def losses(self, method: str = "leace", scope: str = "all") -> pd.DataFrame:
        """The change of the model's own loss, one line a site."""
        lines = self.part("used")
        chosen = (lines["measure"] == "loss") & (lines["scope"] == scope)
        return lines[chosen & (lines["method"] == method)]

    def used(self, method: str = "leace", scope: str = "all") -> list[str]:
        """Sites where erasing the label costs more than every draw of the controls does on average.

        That is: the interval of the loss beyond the dearer of the two controls lies above 0, and the
        loss is more than two standard deviations of their draws above them.
        """
        return [
            str(line["site"]) for _, line in self.losses(method, scope).iterrows() if _clear(line)
        ]

    def figure(self) -> go.Figure:
        """Probe accuracy before and after, above the cost of erasing and that of the controls."""
        from layerscope.analyses.erasing.concept_erasure_figure import draw

        return draw(self.table)

    def _verdict(self, used: pd.DataFrame, readable: bool) -> str:
        clear = [str(line["site"]) for _, line in used.iterrows() if _clear(line)]
        if not readable:
            text = " So it is not shown to be readable here, by a linear probe"
            if not clear:
                return f"{text}, nor to be used."
            return f"{text}; but erasing it costs more than the controls at {', '.join(clear)}."
        if not clear:
            return " So it is decodable, but not seen to be used at any of these sites."
        if len(clear) == len(used):
            return (
                " So it is decodable and used, at every site."
                if len(used) > 1
                else " So it is used."
            )
        return f" So it is used at {len(clear)} of {len(used)} sites: {', '.join(clear)}."


def _clear(line: pd.Series[Any]) -> bool:
    dearer = "matched" if line["matched_mean"] >= line["null_mean"] else "null"
    beyond = line["value"] - line[f"{dearer}_mean"]
    return bool(line["beyond_low"] > 0 and beyond > 2 * line[f"{dearer}_sd"])


def _readable(line: pd.Series[Any]) -> bool:
    """Whether the probe beats the mean, or the majority by more than two standard errors of it."""
    share = float(line["baseline"]) if line["measure"] == "accuracy" else 0.0
    error = (share * (1 - share) / max(1, int(line["n"]))) ** 0.5
    return bool(line["before"] > share + 2 * error)


def _decodable(line: pd.Series[Any]) -> str:
    measure = "accuracy" if line["measure"] == "accuracy" else "R²"
    against = f"majority {line['baseline']:.3f}" if measure == "accuracy" else "0 for the mean"
    return (
        f"{line['label']} is read best at {line['site']}: {measure} {line['before']:.3f} ({against}), "
        f"and {line['after']:.3f} after {line['method'].upper()} takes {line['rank']} of "
        f"{line['width']} directions away."
    )


def _used(line: pd.Series[Any]) -> str:
    between = spoken(line["ci_low"], line["ci_high"], ".3f")
    text = (
        f"Inside the model, erasing it changes the loss most beyond the controls at {line['site']}: by "
        f"{line['value']:+.3f}{between}"
    )
    own = line["unit"] == AS_GIVEN
    if not own:
        text += f" {line['unit']}"
    if line["null_mean"] == line["null_mean"]:
        text += (
            f", against {line['null_mean']:+.3f} for as many random directions and "
            f"{line['matched_mean']:+.3f} for random directions of equal variance"
        )
    counted = "samples" if own else "predictions"
    return text + f" ({line['n']:,} {counted} in {line['n_groups']:,} groups)."
