"""What-ifs answered block by block where that is exact, by whole passes with hooks where not."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replaying.batches import Recorded, Sweep, batches
from layerscope.hooks.replaying.by_blocks import by_blocks
from layerscope.hooks.replaying.by_hooks import by_hooks
from layerscope.hooks.replaying.lanes import rows_of
from layerscope.hooks.replaying.outcome import Outcome, Part, put_together
from layerscope.hooks.replaying.recording import Pass
from layerscope.hooks.replaying.rewire import NotReplayable
from layerscope.hooks.replaying.trust import untrusted


def sweep(work: Pass, asked: Sweep, recorded: Recorded | None) -> tuple[Outcome, list[str]]:
    """Answer all what-ifs; also returns why they were not run block by block, if so."""
    with evaluating(work.model), torch.set_grad_enabled(asked.grad):
        why = _obstacle(work, asked)
        parts: list[Part] = []
        if not why:
            try:
                parts = _all(work, asked, recorded)
            except NotReplayable as found:
                why = str(found)
                if asked.each_block is not None:
                    raise RuntimeError(
                        f"{why}; each_block has seen streams of it already. Record the model again, "
                        "as it is now"
                    ) from found
        if why:
            parts = _all(work, asked, recorded, hooked=True)
    reasons = [f"not continued block by block but by whole passes with hooks: {why}"] if why else []
    rows = rows_of(asked.what_ifs)
    outcome = put_together(
        parts,
        rows.of,
        rows.what_if,
        range(min(part.offset for part in parts), work.positions),
        exact=not why,
        notes=[*work.inputs.notes, *reasons],
    )
    return outcome, reasons


def _obstacle(work: Pass, asked: Sweep) -> str:
    """Why these what-ifs cannot be run block by block; "" if they can."""
    sites = [site for one in asked.what_ifs if one.start is None for site in one.changes]
    if sites:
        return f"a change at {sites[0]!r} is not inside one block"
    if work.inputs.padded and any(one.whole for one in asked.what_ifs):
        return "a change depends on all rows and positions, of which some are padding"
    why = untrusted(work)
    if not why and asked.generate and work.cache is None:
        why = f"{type(work.model).__name__} keeps no keys and values that can be handed on"
    return why


def _all(
    work: Pass, asked: Sweep, recorded: Recorded | None, *, hooked: bool = False
) -> list[Part]:
    run = by_hooks if hooked else by_blocks
    todo = list(batches(work, asked, None if hooked else recorded))
    bar = tqdm(todo, desc="what-ifs", unit="batch", disable=not asked.progress, leave=False)
    return [run(work, asked, batch, recorded) for batch in bar]


def require_last(work: Pass, last: int | None, generate: int) -> None:
    """Refuse last positions that the prompts do not have, or that are padding.

    Raises:
        ValueError: more than there are, none although tokens are to be generated, or padding.
    """
    if last is not None and not 0 <= last <= work.positions:
        raise ValueError(f"last={last}, but the prompts have {work.positions} positions")
    if generate and last == 0:
        raise ValueError("generate= needs logits: leave out last=0")
    if (generate or last) and work.inputs.padded_right:
        raise ValueError(
            "prompts are padded on the right, so their last positions are padding; pad them on "
            "the left (tokenizer.padding_side = 'left')"
        )
