"""One program for all prompts, chosen on some of them and counted on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from torch import nn

from layerscope.analyses.material.answers import Answers, extended, score
from layerscope.analyses.programs.program_search import Searched
from layerscope.analyses.programs.program_tree import Program
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.replay import record

CANDIDATES = 20


def fixed_program(
    model: nn.Module,
    prompts: Prompts,
    answers: Answers,
    found: Sequence[Searched],
    *,
    max_rows: int,
    seed: int,
) -> tuple[dict[int, tuple[Program, bool]], float]:
    """For each prompt the program that is right most often on the other half, and its success.

    Of the programs that the search found right on a half, the 20 it found most often are run on all
    of that half; the best of them is run on the other one. Ties go to the shorter program.

    Returns:
        Prompt -> (program, whether right); and the layer-evaluations it took. Nothing for fewer
        than four prompts.
    """
    order = [one.prompt for one in found]
    if len(order) < 4:
        return {}, 0.0
    Random(f"{seed}/halves").shuffle(order)
    halves = [set(order[::2]), set(order[1::2])]
    own = tuple(range(len(found[0].tries[0].program)))
    candidates = [[own, *_often(one for one in found if one.prompt in half)] for half in halves]
    every = list(dict.fromkeys(program for some in candidates for program in some))
    right, cost = _right(model, prompts, answers, every, max_rows)
    chosen: dict[int, tuple[Program, bool]] = {}
    for half, other, some in zip(halves, halves[::-1], candidates, strict=True):
        best = max(some, key=lambda p: (sum(right[i][p] for i in half), -len(p)))
        chosen |= {i: (best, right[i][best]) for i in other}
    return chosen, cost


def _often(found: Iterable[Searched]) -> list[Program]:
    counts = Counter(t.program for one in found for t in one.tries if t.correct)
    return [program for program, _ in counts.most_common(CANDIDATES)]


def _right(
    model: nn.Module,
    prompts: Prompts,
    answers: Answers,
    programs: Sequence[Program],
    max_rows: int,
) -> tuple[dict[int, dict[Program, bool]], float]:
    """For each prompt, which programs are right."""
    found: dict[int, dict[Program, bool]] = {
        i: dict.fromkeys(programs, False) for i in range(len(prompts))
    }
    cost = 0.0
    for batch in extended(prompts, answers, max_rows):
        run = record(model, batch.input_ids.to(device_of(model)))
        out = run.programs(programs, last=batch.k)
        cost += out.evaluations + len(run) * run.n_blocks
        logits = out.logits.unflatten(0, (len(programs), len(run)))
        for number, program in enumerate(programs):
            rated = score(logits[number][batch.row], batch.answer_ids)
            for row, correct in zip(batch.row.tolist(), rated.correct.tolist(), strict=True):
                found[int(batch.prompt[row])][program] |= bool(correct)
    return found, cost
