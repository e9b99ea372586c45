"""Back-patching on the bundled world: are chains missed because their first fact is found too late?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.back_patches.back_patching_finding import BackPatchingFinding
from layerscope.demo import world

if TYPE_CHECKING:
    from torch import nn

LAST, NAME = "the last token", "the name"


class MissedChains(BackPatchingFinding):
    """Back-patching of the two-hop questions that training never showed."""

    question: ClassVar[str] = (
        "Missed chains of facts: what if an earlier layer had seen what a later one found?"
    )


def chains(
    model: nn.Module,
    *,
    tokenizer: Any = None,
    questions: Sequence[world.Question] | None = None,
    names: bool = True,
    progress: bool = True,
) -> MissedChains:
    """Back-patch the unseen two-hop questions at the last token, and at the name they begin from.

    States of other prompts, for the control, are taken from questions that ask for the same relation
    last, so that they speak of the same kind of answer.

    Args:
        model: Usually the bundled one.
        tokenizer: Defaults to the bundled one.
        questions: Defaults to all unseen two-hop questions.
        names: Whether to back-patch at the name as well.
        progress: Whether to show a bar.
    """
    from layerscope.analyses.back_patching import back_patching
    from layerscope.demo import load_tokenizer

    asked = unseen() if questions is None else tuple(questions)
    found = back_patching(
        model,
        [q.prompt for q in asked],
        [q.answer for q in asked],
        at={LAST: -1} | ({NAME: [q.start for q in asked]} if names else {}),
        alike=[q.relations[-1] for q in asked],
        guesses=[len(world.candidates(q.relations[-1])) for q in asked],
        tokenizer=load_tokenizer() if tokenizer is None else tokenizer,
        progress=progress,
    )
    return MissedChains(
        table=found.table,
        provenance=replace(
            found.provenance,
            data=f"small world, {len(asked):,} unseen two-hop questions",
            call="layerscope.demo.chains.chains(model)" if questions is None and names else "",
        ),
        notes=(
            (
                "Both facts of every chain were learned, the chain itself was never shown. A state is "
                "brought to an earlier block at the last token, where the answer is formed, or at the "
                "name the chain begins from."
            ),
            *found.notes,
        ),
    )


def unseen() -> tuple[world.Question, ...]:
    """The two-hop questions that training never shows."""
    return tuple(q for q in world.all_questions() if q.hops == 2 and not q.seen)
