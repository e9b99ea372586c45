"""Which positions may no longer see which: attention edges by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.material.token_axis import places_of
from layerscope.hooks.prompts import Prompts

Positions = tuple[int, ...]


@dataclass(frozen=True)
class Flow:
    """For every prompt the queries that are blinded, and the keys they do not see."""

    name: str
    queries: tuple[Positions, ...]
    keys: tuple[Positions, ...]
    token: str | None = None
    """The token of the only key, where flows are one for each position."""
    position: int | None = None

    def at(self, prompt: int, length: int, answer: int) -> tuple[list[int], list[int]]:
        """Queries and keys of one prompt of `length` tokens that is followed by an answer.

        The answer's own tokens are blind with the last one of the prompt, as when they are
        generated one by one.
        """
        queries = list(self.queries[prompt])
        more = range(length, length + answer - 1) if length - 1 in queries else ()
        return [*queries, *more], list(self.keys[prompt])

    def alike(self, prompt: Tensor, rows: Tensor) -> Iterator[Tensor]:
        """The chosen rows in groups that cut the same edges."""
        groups: dict[tuple[Positions, Positions], list[int]] = {}
        for row in rows.tolist():
            i = int(prompt[row])
            groups.setdefault((self.queries[i], self.keys[i]), []).append(row)
        for members in groups.values():
            yield torch.tensor(members)


def flows_of(prompts: Prompts, flows: Mapping[str, tuple[Any, Any]] | None) -> list[Flow]:
    """The flows a user asks for; by default from the last position to each one.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a part that a prompt does not have.
        ValueError: no flows, a list of the wrong length, edges that no attention has.
    """
    if flows is None:
        return _to_each(prompts)
    if not flows:
        raise ValueError("flows is empty; leave it out for the last position to every position")
    found = []
    for name, (queries, keys) in flows.items():
        flow = Flow(str(name), _spans(prompts, name, queries), _spans(prompts, name, keys))
        _require_edges(flow)
        found.append(flow)
    return found


def _to_each(prompts: Prompts) -> list[Flow]:
    last = tuple((len(ids) - 1,) for ids in prompts.ids)
    found = []
    for place in places_of(prompts):
        if place.at is None:
            continue
        label = place.label.strip() or repr(place.label)
        keys = tuple((int(p),) for p in place.at)
        found.append(
            Flow(f"last ⇸ {label} ({place.number})", last, keys, place.label, place.number)
        )
    # A single position sees only itself, and must see something.
    return [flow for flow in found if flow.keys != flow.queries or flow.position]


def _spans(prompts: Prompts, name: str, of: Any) -> tuple[Positions, ...]:
    """A list has one entry for each prompt; anything else is the same in all."""
    if isinstance(of, list) and len(of) != len(prompts):
        raise ValueError(
            f"flow {name!r} lists {len(of)} places for {len(prompts)} prompts; a list has one entry "
            "for each prompt, a tuple or range several positions of every prompt"
        )
    each = of if isinstance(of, list) else [of] * len(prompts)
    return tuple(_positions(prompts, i, one) for i, one in enumerate(each))


def _positions(prompts: Prompts, i: int, of: Any) -> Positions:
    parts: Sequence[Any] = of if isinstance(of, (list, tuple, range)) else [of]
    found = {p for part in parts for p in prompts.positions(i, part)}
    return tuple(sorted(found))


def _require_edges(flow: Flow) -> None:
    for i, (queries, keys) in enumerate(zip(flow.queries, flow.keys, strict=True)):
        if not queries or not keys:
            raise ValueError(f"flow {flow.name!r} names no position of prompt {i}")
        if min(keys) > max(queries):
            raise ValueError(
                f"flow {flow.name!r}: in prompt {i} all keys {list(keys)} come after the queries "
                f"{list(queries)}, which cannot see them anyway"
            )
