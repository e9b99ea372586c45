"""Where back-patching acts: in each prompt the positions whose state is brought to an earlier block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerscope.hooks.prompts import Prompts

Places = tuple[tuple[int, ...], ...]
"""For each prompt the absolute positions that are patched together."""
Pair = tuple[int, int]
"""(source, target): the output of block `source` goes into the output of block `target`."""


def named_places(prompts: Prompts, at: Any) -> dict[str, Places]:
    """What `back_patching(at=)` accepts, as absolute positions under a name for the figure.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a part that does not occur in a prompt.
        ValueError: a list that has not one entry for each prompt.
    """
    if isinstance(at, Mapping):
        if not at:
            raise ValueError("at={} names no position; give at least one, such as {'last': -1}")
        return {str(name): _places(prompts, rule) for name, rule in at.items()}
    return {_name(at): _places(prompts, at)}


def all_pairs(blocks: int, pairs: Pair | Sequence[Pair] | None = None) -> tuple[Pair, ...]:
    """Every (source, target) with source > target, or `pairs` (or one) found to be such.

    Ordered by target, then source.

    Raises:
        ValueError: a source at or below its target, a block that is not there, fewer than two
            blocks, or no pair.
    """
    if blocks < 2:
        raise ValueError(
            f"back-patching needs a later and an earlier block; this model has {blocks}"
        )
    if pairs is None:
        return tuple((s, t) for t in range(blocks) for s in range(t + 1, blocks))
    given: Sequence[Any] = [pairs] if isinstance(pairs, tuple) and _is_pair(pairs) else pairs
    wrong = [one for one in given if not _is_pair(one)]
    if wrong:
        raise ValueError(f"pairs is a list of (source, target), such as [(6, 4)]; got {wrong[0]!r}")
    found = dict.fromkeys((int(s), int(t)) for s, t in given)
    if not found:
        raise ValueError("pairs=[] tries nothing; leave it out to try all")
    for source, target in found:
        if not (0 <= source < blocks and 0 <= target < blocks):
            raise ValueError(
                f"pair ({source}, {target}) names a block that is not there: blocks are 0 to "
                f"{blocks - 1}"
            )
        if source <= target:
            raise ValueError(
                f"pair ({source}, {target}): the source must be later than the target, since "
                "back-patching brings a later state to an earlier block; pairs are (source, target)"
            )
    return tuple(sorted(found, key=lambda pair: (pair[1], pair[0])))


def _is_pair(one: Any) -> bool:
    return (
        isinstance(one, (tuple, list))
        and len(one) == 2
        and all(isinstance(block, (int, np.integer)) for block in one)
    )


def _places(prompts: Prompts, rule: Any) -> Places:
    if isinstance(rule, np.integer):
        rule = int(rule)
    if rule is None or isinstance(rule, (int, str)):
        return tuple((prompts.position(i, rule),) for i in range(len(prompts)))
    entries = list(rule)
    if len(entries) != len(prompts):
        raise ValueError(
            f"at lists {len(entries)} positions for {len(prompts)} prompts; give one for each "
            "prompt, a single one for all, or {name: position} to measure several"
        )
    return tuple(_of_one(prompts, i, entry) for i, entry in enumerate(entries))


def _of_one(prompts: Prompts, i: int, entry: Any) -> tuple[int, ...]:
    together = entry if isinstance(entry, (list, tuple)) else [entry]
    found = dict.fromkeys(prompts.position(i, one) for one in together)
    if not found:
        raise ValueError(
            f"at names no position for prompt {i}; give a number (-1 is the last token) or a part of "
            "the prompt"
        )
    return tuple(sorted(found))


def _name(at: Any) -> str:
    if at is None or at == -1:
        return "the last token"
    if isinstance(at, (int, np.integer)):
        return f"token {at}"
    if isinstance(at, str):
        return f"{at!r}"
    return "the chosen tokens"
