"""What is to be changed, on which prompts, and the layer and position from which it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.editing.positions import Positions, earliest
from layerscope.hooks.edits import Change, as_changes
from layerscope.hooks.sites import layer_of, resolve


@dataclass(frozen=True, eq=False)
class WhatIf:
    """Changes that belong together, and the prompts they are made to."""

    changes: Mapping[str, Sequence[Change]]
    of: Tensor
    """The prompt that each of its rows continues, [rows]."""
    start: int | None
    """Residual index where it leaves the baseline; None: no part of the pass can be re-used."""

    def earliest(self, length: int) -> int:
        """The first position it changes, of prompts of `length` positions."""
        if self.whole:
            return 0
        return min(earliest(c.at, length) for changes in self.changes.values() for c in changes)

    @property
    def whole(self) -> bool:
        """Whether a change depends on other rows or positions: then they are computed together."""
        return any(change.whole for changes in self.changes.values() for change in changes)


class Entries:
    """Sites by what users call them, each with the residual index where a change of it shows.

    Looked up once for each name: thousands of what-ifs speak of the same few sites.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: dict[int | str, tuple[tuple[str, int | None], ...]] = {}

    def __call__(self, asked: int | str) -> tuple[tuple[str, int | None], ...]:
        """Pairs of canonical site and residual index.

        Raises:
            LookupError: a site the model does not have.
        """
        if asked not in self._known:
            sites = resolve(self._model, asked)
            self._known[asked] = tuple((site, entry(self._model, site)) for site in sites)
        return self._known[asked]


def what_if(entries: Entries, changes: Mapping[int | str, Any], of: Tensor, length: int) -> WhatIf:
    """One what-if from what a user wrote: sites or patterns, one change or several for each.

    Raises:
        IndexError: a position outside the prompts, which have `length`.
        LookupError: a site the model does not have.
        ValueError: nothing is changed.
    """
    found: dict[str, list[Change]] = {}
    starts: list[int | None] = []
    for asked, given in changes.items():
        for site, start in entries(asked):
            starts.append(start)
            found.setdefault(site, []).extend(fixed(c, length) for c in as_changes(given))
    if not found:
        raise ValueError("a what-if changes something, such as {'blocks.3.mlp_out': edits.zero()}")
    known = [start for start in starts if start is not None]
    return WhatIf(found, of, min(known) if len(known) == len(starts) else None)


def fixed(change: Change, length: int) -> Change:
    """The change at the same positions of a prompt of `length`, all counted from its start."""
    return replace(change, at=absolute(change.at, length))


def absolute(at: Positions, length: int) -> Positions:
    """Positions counted from the start of a prompt of `length`.

    >>> absolute(-1, 9), absolute(slice(-2, None), 9).tolist()
    (8, [7, 8])

    Raises:
        IndexError: a position outside the prompt.
    """
    if at is None:
        return None
    if isinstance(at, slice):
        chosen = range(length)[at]
        if not len(chosen):
            raise IndexError(f"at={at} names no position of a prompt of {length}")
        return torch.tensor(chosen)
    asked = torch.as_tensor(at)
    wrong = asked[(asked < -length) | (asked >= length)]
    if wrong.numel():
        raise IndexError(
            f"at={int(wrong.flatten()[0])}, but the prompts have {length} positions: "
            f"0 to {length - 1}, or {-length} to -1"
        )
    counted = torch.where(asked < 0, asked + length, asked)
    return int(counted) if counted.ndim == 0 else counted


def entry(model: nn.Module, site: str) -> int | None:
    """The residual index from which on a change of `site` shows: the blocks after it are run.

    None for what is not in one block: the embedding module, the encoder, what several blocks share.
    """
    index = stream_index(site)
    if index is not None:
        return index
    blocks = anatomy(model).blocks
    if site in ("norm", "logits"):
        return len(blocks)
    if site.startswith("blocks."):
        return layer_of(site)
    path = site.partition(":")[0]
    inside = [block.index for block in blocks if path.startswith(f"{block.path}.")]
    return inside[0] if len(inside) == 1 else None


def stream_index(site: str) -> int | None:
    """Residual index of a site between blocks (0 enters block 0); None for any other site.

    >>> stream_index("embed"), stream_index("blocks.2.resid_post"), stream_index("norm")
    (0, 3, None)
    """
    if site == "embed":
        return 0
    number, part = layer_of(site), site.rpartition(".")[2]
    if number is None or not site.startswith("blocks."):
        return None
    return {"resid_pre": number, "resid_post": number + 1}.get(part)


def prompts_of(of: int | Sequence[int] | Tensor | None, prompts: int) -> Tensor:
    """The prompts a what-if is made to; None: all of them.

    Raises:
        IndexError: there is no such prompt.
    """
    if of is None:
        return torch.arange(prompts)
    rows = torch.as_tensor(of, dtype=torch.long).reshape(-1).cpu()
    if not len(rows):
        raise ValueError("of=[] names no prompt; None stands for all of them")
    wrong = rows[(rows < 0) | (rows >= prompts)]
    if len(wrong):
        raise IndexError(f"of={int(wrong[0])}, but the recording has prompts 0 to {prompts - 1}")
    return rows
