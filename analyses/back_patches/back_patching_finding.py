"""The finding of `back_patching`: what any pair, one fixed pair, and the same tries in vain, repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import percent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

OWN, OTHER, NOISE = "own", "other prompt", "noise"
"""Whose states are brought to the earlier block."""
WRONG, RIGHT, ALL = "wrong at first", "right at first", "all prompts"
"""Groups of prompts, by how the model answers them untouched."""
LIKELIEST, TEXT = "likeliest tokens", "generated text"
"""How an answer is found right."""

COLUMNS = (
    "kind",
    "position",
    "group",
    "states",
    "source",
    "target",
    "value",
    "ci_low",
    "ci_high",
    "control",
    "excess",
    "excess_low",
    "excess_high",
    "n",
    "tries",
    "logprob",
    "logprob_before",
    "rank",
    "prompt",
    "answer",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/back_patching.md says what each one means."""


@dataclass(frozen=True)
class BackPatchingFinding(Finding):
    """What happens to the answers when a later state is put into an earlier block.

    The lines of the table differ by `kind`: ``pair`` (one for each source and target), ``any
    pair``, ``every pair``, ``average pair``, ``fixed pair``, ``untouched``, ``guessing`` and
    ``prompt`` (one for each prompt).
    """

    question: ClassVar[str] = "What if an earlier layer had seen what a later one found?"

    def answer(self) -> str:
        """For each position: what is repaired, what the same tries repair in vain, and one pair."""
        return " ".join(self._at(name) for name in dict.fromkeys(self.table["position"]))

    def gist(self) -> str:
        """In one sentence."""
        position = str(self.table["position"].iloc[0])
        lines = chosen(self.table, position=position, estimator=shown_estimator(self.table))
        if not (lines["group"] == WRONG).any():
            n = int(chosen(lines, kind="average pair", group=RIGHT, states=OWN)["n"].iloc[0])
            return f"The model answers all {n:,} prompts right untouched, so there is nothing to repair."
        tries = chosen(lines, kind="any pair", group=WRONG)
        own = chosen(tries, states=OWN).iloc[0]
        said = f"{percent(own['value'])} of the wrong answers come right when a later state comes earlier"
        against = tries[tries["states"].isin([OTHER, NOISE])]
        if not len(against):
            return f"{said}; no control was run."
        most = against.iloc[int(against["value"].argmax())]
        noise = most["states"] == NOISE
        what = "noise of the same size repairs" if noise else "states of other prompts repair"
        only = "" if own["excess_low"] > 0 else "not clearly more: "
        return f"{said}; {only}{what} {percent(most['value'])}."

    def figure(self) -> go.Figure:
        """Success by source and target beside the control's, and the rates with their intervals."""
        from layerscope.analyses.back_patches.back_patching_figure import draw

        return draw(self.table)

    def lines(self, **wanted: Any) -> pd.DataFrame:
        """The lines of the table whose columns hold the wanted values."""
        return chosen(self.table, **wanted)

    def _at(self, position: str) -> str:
        lines = chosen(self.table, position=position, estimator=shown_estimator(self.table))
        start = f"At {position}: "
        if not (lines["group"] == WRONG).any():
            kept = chosen(lines, kind="average pair", group=RIGHT, states=OWN).iloc[0]
            return (
                f"{start}the model answers all {int(kept['n']):,} prompts right untouched, so there "
                f"is nothing to repair; an average pair leaves {kept['value']:.1%} of them right."
            )
        return start + _repaired(lines) + _fixed(lines) + "."


def chosen(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The lines whose columns hold the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def shown_estimator(table: pd.DataFrame) -> str:
    """What figure and answer speak of: generated text where there is some."""
    return TEXT if (table["estimator"] == TEXT).any() else LIKELIEST


def _repaired(lines: pd.DataFrame) -> str:
    own = chosen(lines, kind="any pair", group=WRONG, states=OWN).iloc[0]
    text = (
        f"of {int(own['n']):,} wrong answers {_rate(own)} come right with some of "
        f"{int(own['tries'])} pairs"
    )
    against = [
        f"{line['value']:.1%} with {words}"
        for states, words in ((OTHER, "states of other prompts"), (NOISE, "noise of the same norm"))
        for _, line in chosen(lines, kind="any pair", group=WRONG, states=states).iterrows()
    ]
    if not against:
        return f"{text}, with no control"
    return (
        f"{text}; the same tries in vain repair {' and '.join(against)} (excess "
        f"{100 * own['excess']:+.1f} points [{100 * own['excess_low']:+.1f}, "
        f"{100 * own['excess_high']:+.1f}])"
    )


def _fixed(lines: pd.DataFrame) -> str:
    """One pair that was chosen on other prompts, and what it does to the accuracy of all."""
    fixed = {
        line["group"]: line for _, line in chosen(lines, kind="fixed pair", states=OWN).iterrows()
    }
    if not fixed:
        return ""
    line = fixed[WRONG]
    against = "" if line["control"] != line["control"] else f" (control {line['control']:.1%})"
    which = f" (mostly block {line['source']} into {line['target']})" if line["value"] else ""
    text = f". One pair fixed on other prompts{which} repairs {_rate(line)}{against}"
    if RIGHT not in fixed:
        return text
    before = chosen(lines, kind="untouched", group=ALL)["value"].iloc[0]
    return (
        f"{text} and leaves {fixed[RIGHT]['value']:.1%} of the right ones right: over all "
        f"{int(fixed[ALL]['n']):,} prompts {before:.1%} right becomes "
        f"{fixed[ALL]['value']:.1%}"
    )


def _rate(line: Any) -> str:
    return f"{line['value']:.1%} [{line['ci_low']:.1%}, {line['ci_high']:.1%}]"
