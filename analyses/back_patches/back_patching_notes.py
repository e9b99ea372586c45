"""What a reader of a back-patching table must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.back_patches.back_patching_controls import Donors
from layerscope.analyses.back_patches.back_patching_finding import NOISE, WRONG, shown_estimator

if TYPE_CHECKING:
    import pandas as pd


FEWEST = 5
"""Wrong prompts below which rates of repair say nothing."""
NOISY = 1e-3
"""Rounding between batches, in logits, that is worth a note."""


def notes(
    found: pd.DataFrame, tries: int, generate: int, drawn: Donors | None, noise: float
) -> tuple[str, ...]:
    """What is measured, what to beware of, and what the controls are."""
    rounding = (
        f"rounding alone moves the logits of a prompt by up to {noise:.2g} between batches: smaller "
        "differences mean nothing"
    )
    return (
        *_meaning(tries, generate),
        *_cautions(found),
        *_of_controls(drawn),
        *([rounding] if noise > NOISY else []),
    )


def _of_controls(drawn: Donors | None) -> tuple[str, ...]:
    if drawn is None:
        return ("no control was asked for: these rates have nothing to be held against",)
    noise = (
        f"control {NOISE!r}: the same tries with a random direction of the same norm as the state "
        "it stands for"
    )
    return (*drawn.notes, noise)


def _meaning(tries: int, generate: int) -> list[str]:
    right = "every token of it is the likeliest where it stands"
    if generate:
        right += f" ('likeliest tokens'), or the {generate} greedily generated tokens hold it as a "
        right += "whole word ('generated text', which answer and figure show)"
    what = (
        "each try writes the residual stream that left block `source` over the one that leaves "
        f"block `target` at the same position, and runs on; an answer is right where {right}"
    )
    notes = [what]
    if tries > 1:
        notes.append(
            f"'any pair' is the best of {tries} tries for each prompt, chosen by looking at the "
            "answer: hold it against the same tries in vain, not against 0"
        )
    return notes


def _cautions(found: pd.DataFrame) -> list[str]:
    shown = found[found["estimator"] == shown_estimator(found)]
    counts = shown[shown["kind"] == "untouched"].groupby("group")["n"].max()
    wrong = int(counts.get(WRONG, 0))
    notes = []
    if not wrong:
        notes.append("the model answers every prompt right untouched: there is nothing to repair")
    elif wrong == 1:
        notes.append(
            "only one prompt is answered wrong at first, so no pair can be chosen on others: "
            "there is no 'fixed pair'"
        )
    else:
        notes.append(
            "'fixed pair': the pair that repairs most wrong prompts in four fifths of the prompts, "
            "counted in the last fifth, five times over (fewer parts where fewer are wrong)"
        )
        notes.append(
            "intervals treat prompts as independent; prompts that share facts or words are not quite"
        )
    if 0 < wrong < FEWEST:
        notes.append(
            f"only {wrong} prompt{'s are' if wrong > 1 else ' is'} answered wrong at first: too few "
            "to conclude anything about what is repaired"
        )
    return notes
