"""`back_patching`: what a later block found is put into an earlier one, and the model runs on.

Biran et al. 2024, "Hopping Too Late". In a question of two hops the first hop may be resolved so
late that the blocks which know the second have already been passed. Putting the state of a later
block into an earlier one gives it those blocks again.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch import nn

from layerscope.analyses.back_patches.back_patching_controls import (
    Control,
    Donors,
    donors,
    noise_states,
    other_states,
)
from layerscope.analyses.back_patches.back_patching_finding import BackPatchingFinding
from layerscope.analyses.back_patches.back_patching_notes import notes
from layerscope.analyses.back_patches.back_patching_places import (
    Pair,
    Places,
    all_pairs,
    named_places,
)
from layerscope.analyses.back_patches.back_patching_table import Asked, table
from layerscope.analyses.back_patches.back_patching_tries import Trier
from layerscope.analyses.material.answers import as_answers
from layerscope.analyses.material.decoders import require_decoder
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.prompts import Prompts, as_prompts
from layerscope.hooks.quiet import undisturbed


def back_patching(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any],
    *,
    at: Any = -1,
    pairs: Pair | Sequence[Pair] | None = None,
    generate: int = 0,
    control: bool = True,
    draws: int = 1,
    alike: Sequence[Hashable] | None = None,
    guesses: int | Sequence[int] | None = None,
    tokenizer: Any = None,
    max_rows: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> BackPatchingFinding:
    """Put the output of each block into the output of each earlier one, and see what is answered.

    For every prompt and every pair (source > target), the residual stream that left block `source`
    at the chosen position replaces the one that leaves block `target` there, and the pass goes on
    from there, exactly. That some pair makes an answer right is a maximum over many tries, so the
    same tries are made with states that know nothing of the prompt, and one pair that was chosen on
    other prompts is counted as well.

    Args:
        model: A decoder with logits; it is left as it was.
        prompts: Texts, ids or a batch, as `as_prompts` takes them; of any lengths.
        answers: For each prompt a text, a token id, a list of ids, or a list of alternatives. An
            answer of several tokens is scored as a sequence.
        at: Position: an int (negatives from the end) or a part of the prompt (its last token), one
            for all prompts or a list with one for each; an entry that is a list itself names
            positions to patch together. ``{name: position}`` measures several, one by one.
        pairs: (source, target) of block outputs, source > target, one or a list; None tries all L (L - 1) / 2.
        generate: Also generate so many tokens greedily after every try; an answer is right where
            the new text has it as a whole word, whatever the case.
        control: Whether to make the same tries with states of other prompts and with noise of the
            same norm. Each costs as much as the own tries.
        draws: How often each control is drawn; its rates are means over draws.
        alike: A label for each prompt: states of other prompts are then taken from those of the
            same label (such as the relation that is asked for), which makes a harder control.
        guesses: Among how many answers one would guess, for all prompts or each; adds the rate of
            guessing at random as often as the tries gave different answers.
        tokenizer: Defaults to the model's own.
        max_rows: Prompts that are recorded together.
        seed: Of controls, folds and intervals.
        progress: Whether to show a bar over prompts.

    Returns:
        A `BackPatchingFinding`; docs/back_patching.md explains its lines.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a part that a prompt does not have; a model without blocks.
        ValueError: answers that do not fit the prompts, prompts longer than the context, a source
            at or below its target, a model that reads in both directions or has no logits.
    """
    started = time.perf_counter()
    _require_counts(generate=generate, draws=draws, max_rows=max_rows)
    asked = as_prompts(model, prompts, tokenizer)
    wanted = as_answers(model, asked, answers)
    require_decoder(model, asked)
    tried = all_pairs(len(anatomy(model).blocks), pairs)
    places = named_places(asked, at)
    labels = _each(alike, len(asked), "alike")
    texts = tuple(" / ".join(options) for options in wanted.texts)
    words = Asked(tried, asked.texts, texts, _guesses(guesses, len(asked)), seed)
    drawn = donors(asked, wanted, labels, draws=draws, seed=seed) if control else None
    trier = Trier(model, asked, wanted, tried, generate, max_rows)
    with undisturbed(model), _bar(len(asked), progress) as bar:
        trier.tick = bar.update
        controls = {
            name: _controls(model, asked, where, drawn, draws, seed, max_rows)
            for name, where in places.items()
        }
        sweeps = trier.sweeps(places, controls)
    evaluated = trier.evaluations + _extra(drawn, len(places), asked, model)
    found = table(words, sweeps, generated=bool(generate))
    return BackPatchingFinding(
        table=found,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(asked):,} prompts",
            parameters={
                "at": at if isinstance(at, (int, str)) else list(places),
                "pairs": "all" if pairs is None else tried,
                "generate": generate,
                "control": control,
                "draws": draws,
                "alike": alike is not None,
                "layer_evaluations": round(evaluated, 3),
                "layer_evaluations_by_whole_passes": _naive(trier, sweeps),
                "noise_floor": trier.noise,
            },
            seed=seed,
            call=_call(at, pairs, generate, control, draws, seed),
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(
            *notes(found, len(tried), generate, drawn, trier.noise),
            *asked.notes,
            *wanted.notes,
            *trier.notes,
        ),
    )


def _controls(
    model: nn.Module,
    prompts: Prompts,
    where: Places,
    drawn: Donors | None,
    draws: int,
    seed: int,
    max_rows: int,
) -> list[Control]:
    if drawn is None:
        return []
    others = other_states(model, prompts, where, drawn, max_rows=max_rows)
    return [*others, *noise_states(draws=draws, seed=seed)]


def _require_counts(*, generate: int, draws: int, max_rows: int) -> None:
    if generate < 0:
        raise ValueError(f"generate is a number of tokens, 0 or more; got {generate}")
    for name, value in {"draws": draws, "max_rows": max_rows}.items():
        if value < 1:
            raise ValueError(f"{name} is at least 1; got {value}")


def _each(given: Sequence[Any] | None, count: int, name: str) -> Sequence[Any] | None:
    if given is not None and len(given) != count:
        raise ValueError(f"{name} has {len(given)} entries for {count} prompts; give one for each")
    return given


def _guesses(given: int | Sequence[int] | None, count: int) -> Any:
    if given is None:
        return None
    numbers = [given] * count if isinstance(given, (int, np.integer)) else list(given)
    each = np.asarray(_each(numbers, count, "guesses"))
    if (each < 1).any():
        raise ValueError(f"guesses counts possible answers, at least 1; got {each.min()}")
    return each


def _call(at: Any, pairs: Any, generate: int, control: bool, draws: int, seed: int) -> str:
    """The line that measures this again; long lists are called by their names."""
    where = repr(at) if isinstance(at, (int, str)) else "at"
    tried = "" if pairs is None else ", pairs=pairs"
    return (
        f"layerscope.analyses.back_patching(model, prompts, answers, at={where}{tried}, "
        f"generate={generate}, control={control}, draws={draws}, seed={seed})"
    )


def _extra(drawn: Donors | None, places: int, prompts: Prompts, model: nn.Module) -> float:
    """Layer-evaluations of the passes that read the states of other prompts."""
    if drawn is None or not drawn.of:
        return 0.0
    return float(places * len(prompts) * len(anatomy(model).blocks))


def _naive(trier: Trier, sweeps: dict[str, Any]) -> int:
    """Layer-evaluations of one whole pass for each try, and one to read the states."""
    tries = sum(sum(len(draws) for draws in one.tries.values()) for one in sweeps.values())
    passes = tries * len(trier.pairs) + 1
    return passes * len(anatomy(trier.model).blocks) * len(trier.prompts)


def _bar(total: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="back-patching", unit="prompt", disable=not progress)
