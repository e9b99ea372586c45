"""The positions of a map: every token of prompts that are built alike, or named places in any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerscope.hooks.prompts import Prompts

TOGETHER = "all"
"""The label of a place that is all positions at once."""


@dataclass(frozen=True, eq=False)
class Place:
    """One column of a map: a position in every prompt."""

    label: str
    """A readable token, or the name the user gave."""
    number: int | None
    """The position where it is the same in all prompts."""
    at: Tensor | None
    """`[prompts]` absolute positions; None: all positions at once."""

    def chosen(self, prompts: Tensor) -> int | Tensor | None:
        """What an edit of these prompts takes as `at=`: a number, or `[prompts, 1]`."""
        if self.at is None:
            return None
        here = self.at[prompts]
        first = int(here[0])
        return first if bool((here == first).all()) else here[:, None]


def places_of(
    prompts: Prompts,
    positions: Any = None,
    *,
    others: Prompts | None = None,
    together: bool = False,
) -> list[Place]:
    """The places that `positions` names.

    Args:
        positions: None for every position (prompts of equal length only); ``"all"`` for all
            positions at once; a number or a part of the prompts (its last token); a list of these;
            or ``{name: position}``, where a position may be a list with one entry for each prompt.
        others: Prompts of the same lengths whose tokens are shown beside, where they differ.
        together: Whether to add all positions at once.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a part that a prompt does not have.
        ValueError: prompts of unequal lengths without positions; a list of the wrong length.
    """
    whole = [Place(TOGETHER, None, None)] if together else []
    if isinstance(positions, str) and positions == TOGETHER:
        return [Place(TOGETHER, None, None)]
    if positions is None:
        return [*_every(prompts, others), *whole]
    return [*(_named(prompts, name, of) for name, of in _asked(positions).items()), *whole]


def _every(prompts: Prompts, others: Prompts | None) -> list[Place]:
    lengths = sorted({len(ids) for ids in prompts.ids})
    if len(lengths) > 1:
        raise ValueError(
            f"the prompts have {lengths[0]} to {lengths[-1]} tokens, so position 3 of one is not "
            "position 3 of another; name places with positions=, such as "
            "positions={'subject': [...], 'last': -1}"
        )
    sources = [prompts] if others is None else [prompts, others]
    tokens = [source.tokens(i) for source in sources for i in range(len(source))]
    everyone = torch.arange(len(prompts))
    return [
        Place(_shown(dict.fromkeys(column)), number, torch.full_like(everyone, number))
        for number, column in enumerate(zip(*tokens, strict=True))
    ]


def _shown(tokens: Sequence[str] | dict[str, None]) -> str:
    """One token, two that alternate, or the first of many."""
    different = list(tokens)
    if len(different) == 1:
        return different[0]
    if len(different) == 2:
        return " / ".join(token.strip() or repr(token) for token in different)
    return f"{different[0]} …"


def _asked(positions: Any) -> dict[str, Any]:
    if isinstance(positions, Mapping):
        return {str(name): of for name, of in positions.items()}
    listed = [positions] if isinstance(positions, (int, str)) else list(positions)
    if not listed:
        raise ValueError("positions is empty; leave it out for every position")
    return {str(of): of for of in listed}


def _named(prompts: Prompts, name: str, of: Any) -> Place:
    listed = isinstance(of, (list, tuple, Tensor))
    if listed and len(of) != len(prompts):
        raise ValueError(
            f"position {name!r} lists {len(of)} places for {len(prompts)} prompts; give one for each"
        )
    each = list(of) if listed else [of] * len(prompts)
    found = [
        prompts.position(i, one if isinstance(one, str) else int(one)) for i, one in enumerate(each)
    ]
    same = len(set(found)) == 1
    return Place(name, found[0] if same else None, torch.tensor(found))
