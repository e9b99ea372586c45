"""`layer_programs`: does some other order of the blocks, skipped or repeated, give the answer?

Li et al. 2025, "Skip a Layer or Loop it? Test-Time Depth Adaptation of Pretrained LLMs" (CoLa).
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import nn

from layerscope.analyses.material.answers import as_answers
from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.material.shuffled_answers import shuffled, targets_of
from layerscope.analyses.programs.fixed_program import fixed_program
from layerscope.analyses.programs.layer_programs_finding import LayerProgramsFinding
from layerscope.analyses.programs.layer_programs_table import guesses_of, notes_of, table_of
from layerscope.analyses.programs.program_search import ProgramSearch, costs
from layerscope.analyses.programs.program_tree import Rules
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.prompts import as_prompts
from layerscope.hooks.quiet import undisturbed


def layer_programs(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any],
    *,
    tries: int = 200,
    skip: bool = True,
    repeat: bool = True,
    most: int = 4,
    longest: float = 1.5,
    length_weight: float = 5.0,
    exploration: float = 2**0.5,
    random_child: float = 0.1,
    control: bool = True,
    alike: Sequence[Hashable] | None = None,
    guesses: int | Sequence[int] | None = None,
    tokenizer: Any = None,
    max_rows: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> LayerProgramsFinding:
    """Search, for each prompt, programs of blocks that make the model give the answer.

    A program is a sequence of blocks: at each point up to `most` blocks are skipped, kept, or run
    up to `most` times. A Monte Carlo tree search looks for short ones that are right, knowing the
    right answer. That some program is right is a maximum over many tries, so the same search is
    made for the answer of another prompt, and what it finds is what searching alone can do.

    Args:
        model: A decoder whose blocks can be run one by one; it is left as it was.
        prompts: Texts, ids or a batch, of any lengths.
        answers: For each prompt its right answer, or a list of alternatives.
        tries: Programs that are run for each prompt, the untouched one included; no two are alike.
        skip: Whether blocks may be skipped.
        repeat: Whether blocks may be repeated.
        most: Blocks that one decision is about, and how often they may run.
        longest: Longest program, as a multiple of the model's blocks.
        length_weight: Weight of the length in the search (lambda of the paper).
        exploration: Weight of rarely visited branches (c of the paper, which does not say it).
        random_child: How often a new branch is taken at random.
        control: Whether to search for the answers of other prompts too; costs as much again.
        alike: A label for each prompt; the control then takes answers of prompts of the same label.
        guesses: Among how many answers one would guess, for all prompts or each; adds the rate of
            guessing once for every different answer that the tries gave.
        tokenizer: Defaults to the model's own.
        max_rows: Prompts that are searched side by side.
        seed: Of the search and of the control's answers.
        progress: Whether to show a bar over prompts.

    Returns:
        A `LayerProgramsFinding`; docs/layer_programs.md explains its lines.

    Raises:
        RuntimeError: blocks of this model cannot be run one by one.
        ValueError: answers that do not fit the prompts, neither skipping nor repeating, counts
            below 1.
    """
    started = time.perf_counter()
    asked = as_prompts(model, prompts, tokenizer)
    wanted = as_answers(model, asked, answers)
    require_decoder(model, asked)
    blocks = len(anatomy(model).blocks)
    _require(tries=tries, most=most, max_rows=max_rows, longest=longest)
    if not (skip or repeat):
        raise ValueError("with skip=False and repeat=False the model's own order is all there is")
    rules = Rules(
        n_blocks=blocks,
        most=most,
        skip=skip,
        repeat=repeat,
        longest=int(longest * blocks),
        exploration=exploration,
        length_weight=length_weight,
        random_child=random_child,
    )
    guessed = guesses_of(guesses, len(asked))
    targets = {"answer": targets_of(wanted)}
    if control:
        targets["control"] = shuffled(wanted, _labels(alike, len(asked)), seed)
    searches = {
        name: ProgramSearch(model, asked, these, rules, tries, f"{seed}/{name}")
        for name, these in targets.items()
        if these
    }
    with undisturbed(model), torch.no_grad():
        found = {name: search.run(max_rows, progress) for name, search in searches.items()}
        fixed, more = fixed_program(
            model, asked, wanted, found["answer"], max_rows=max_rows, seed=seed
        )
    table = table_of(asked, wanted, found, fixed, blocks, guessed)
    return LayerProgramsFinding(
        table=table,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(asked):,} prompts",
            parameters={
                "tries": tries,
                "skip": skip,
                "repeat": repeat,
                "most": most,
                "longest": rules.longest,
                "length_weight": length_weight,
                "exploration": exploration,
                "random_child": random_child,
                "control": control,
                "alike": alike is not None,
                **costs(list(searches.values())),
                "layer_evaluations_of_fixed": round(more, 3),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(
            *notes_of(found, rules, tries, searches["answer"].dropped),
            *asked.notes,
            *wanted.notes,
        ),
    )


def _require(**counts: float) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is at least 1; got {value}")


def _labels(alike: Sequence[Hashable] | None, count: int) -> Sequence[Hashable] | None:
    if alike is not None and len(alike) != count:
        raise ValueError(f"alike has {len(alike)} entries for {count} prompts; give one for each")
    return alike
