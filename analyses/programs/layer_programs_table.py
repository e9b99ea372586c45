"""The table of `layer_programs`: the best programs of each search, and what the tries came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.material.answers import Answers
from layerscope.analyses.programs.program_search import Searched, Try
from layerscope.analyses.programs.program_tree import Program, Rules
from layerscope.hooks.prompts import Prompts

if TYPE_CHECKING:
    import pandas as pd


def table_of(
    prompts: Prompts,
    answers: Answers,
    found: Mapping[str, Sequence[Searched]],
    fixed: Mapping[int, tuple[Program, bool]],
    n_blocks: int,
    guesses: Sequence[int] | None,
) -> pd.DataFrame:
    """The Pareto set of each search: programs of which none is shorter and as good.

    Good is right, then likely.
    """
    import pandas as pd

    lines = []
    for search, several in found.items():
        for one in several:
            shared = _shared(one, search, prompts, answers, n_blocks, guesses)
            for number, best in pareto(one.tries):
                lines.append({**shared, **_program(best), "try": number})
    for i, (program, right) in fixed.items():
        line = {
            "search": "fixed",
            "prompt": i,
            "text": prompts.texts[i],
            "answer": " / ".join(answers.texts[i]),
            "solved": right,
            "blocks": n_blocks,
        }
        lines.append(
            {**line, "program": _written(program), "length": len(program), "correct": right}
        )
    table = pd.DataFrame(lines)
    whole = dict.fromkeys(("first", "shortest", "try", "tries", "different", "length"), "Int64")
    flags = dict.fromkeys(("baseline", "solved", "correct"), "boolean")
    return table.astype({k: v for k, v in {**whole, **flags}.items() if k in table})


def pareto(tries: Sequence[Try]) -> list[tuple[int, Try]]:
    """Tries (with their numbers) that no shorter or equally long one beats, by length."""
    order = sorted(
        enumerate(tries),
        key=lambda pair: (len(pair[1].program), not pair[1].correct, -pair[1].logprob, pair[0]),
    )
    kept: list[tuple[int, Try]] = []
    for number, one in order:
        if not kept or (one.correct, one.logprob) > (kept[-1][1].correct, kept[-1][1].logprob):
            kept.append((number, one))
    return kept


def _shared(
    one: Searched,
    search: str,
    prompts: Prompts,
    answers: Answers,
    n_blocks: int,
    guesses: Sequence[int] | None,
) -> dict[str, Any]:
    right = [number for number, t in enumerate(one.tries) if t.correct]
    best = one.best
    different = len({t.said for t in one.tries})
    line = {
        "search": search,
        "prompt": one.prompt,
        "text": prompts.texts[one.prompt],
        "answer": " / ".join(answers.texts[one.prompt]),
        "baseline": one.tries[0].correct,
        "solved": best is not None,
        "first": right[0] if right else None,
        "shortest": None if best is None else len(best.program),
        "tries": len(one.tries),
        "different": different,
        "blocks": n_blocks,
    }
    if guesses is not None:
        line["guessing"] = 1 - (1 - 1 / guesses[one.prompt]) ** different
    return line


def _program(best: Try) -> dict[str, Any]:
    return {
        "program": _written(best.program),
        "length": len(best.program),
        "unique": len(set(best.program)),
        "correct": best.correct,
        "logprob": best.logprob,
    }


def _written(program: Program) -> str:
    return " ".join(map(str, program))


def guesses_of(given: int | Sequence[int] | None, count: int) -> list[int] | None:
    """Among how many answers one guesses, for each prompt.

    Raises:
        ValueError: not one for each, or below 1.
    """
    if given is None:
        return None
    each = [int(given)] * count if isinstance(given, (int, np.integer)) else [int(g) for g in given]
    if len(each) != count:
        raise ValueError(f"guesses has {len(each)} entries for {count} prompts; give one for each")
    if min(each) < 1:
        raise ValueError(f"guesses counts possible answers, at least 1; got {min(each)}")
    return each


def notes_of(
    found: Mapping[str, Sequence[Searched]], rules: Rules, tries: int, dropped: int
) -> tuple[str, ...]:
    """What to beware of in this result."""
    notes = [
        (
            "The search knows the right answer: what it finds is an upper bound that no rule for "
            "choosing programs has to reach. Hold it against the control and the fixed program."
        )
    ]
    if "control" not in found:
        notes.append("There is no control, so how much searching alone would find is not known.")
    else:
        left = len(found["answer"]) - len(found["control"])
        if left:
            notes.append(f"{left} prompts have no other answer to search for, and no control.")
    short = [one for several in found.values() for one in several if len(one.tries) < tries]
    if short:
        notes.append(
            f"{len(short)} searches ran out of programs (of at most {rules.longest} blocks) before "
            f"{tries} tries: their results are exhaustive."
        )
    if dropped:
        notes.append(
            f"{dropped} alternative answers were left out, whose tokens differ before the last one."
        )
    return tuple(notes)
