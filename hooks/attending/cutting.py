"""Attention edges that are cut: from which keys which queries may no longer read."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.hooks.editing.change import Change
from layerscope.hooks.editing.positions import Positions, Rows, checked, positions_in, rows_in
from layerscope.hooks.editing.spot import Spot


def cut(
    queries: Positions = None,
    keys: Positions = None,
    heads: Rows = None,
    *,
    rows: Rows = None,
) -> Change:
    """Cut attention edges, before the softmax: the other keys share what the cut ones had.

    Goes to ``blocks.i.pattern``, or ``blocks.*.pattern``, and is made before the other changes there.

    Args:
        queries: Positions that may no longer attend to `keys`; None: all.
        keys: Positions that are not attended to.
        heads: Query heads, also where several share a key head; None: all.
        rows: Of the batch; None: all.

    Raises:
        ValueError: when the model runs, a query that is left without any key.
    """
    if queries is None and keys is None:
        raise ValueError("cut() without queries and keys would leave no edge at all; give keys")
    return Change(_not_here, queries, rows, heads, "cut", kind="cut", keys=checked(keys, "keys"))


def _not_here(part: Tensor, spot: Spot) -> Tensor:
    raise ValueError(
        f"cut at {spot.site!r} is made before the softmax, so it cannot be applied to a tensor; "
        "use edit()"
    )


def edges(
    change: Change,
    site: str,
    shape: tuple[int, int, int, int],
    offset: int,
    key_offset: int,
    end: int | None,
) -> Tensor:
    """Which edges `change` cuts, boolean [1 or rows, 1 or heads, queries, keys].

    Args:
        change: Made by `cut`.
        site: For errors.
        shape: Rows, heads, queries, keys of the pattern.
        offset: Absolute position of the first query.
        key_offset: Absolute position of the first key.
        end: Where the prompt ends: negative positions count from there.
    """
    batch, count, queries, keys = shape
    own = batch if change.onto is None else len(change.onto)
    chosen = rows_in(change.rows, own, site)
    lines = torch.arange(own) if chosen is None else chosen
    places = lines if change.onto is None else change.onto.cpu()[lines]
    n = len(lines)
    found = (
        _marked(change.at, offset, queries, end, site, n)[:, :, None]
        & (_marked(change.keys, key_offset, keys, end, site, n)[:, None, :])
    )
    if chosen is not None or change.onto is not None:
        here = places >= 0
        whole = torch.zeros(batch, queries, keys, dtype=torch.bool)
        whole[places[here]] = found.expand(n, -1, -1)[here]
        found = whole
    heads = rows_in(change.heads, count, site, "head")
    if heads is None:
        return found[:, None]
    of_heads = torch.zeros(count, dtype=torch.bool).index_fill(0, heads, True)
    return found[:, None] & of_heads[None, :, None, None]


def _marked(
    at: Positions, offset: int, length: int, end: int | None, site: str, rows: int
) -> Tensor:
    """Which positions of a pass `at` names, boolean [1 or rows, length]."""
    asked = positions_in(at, offset, length, site, end)
    if asked is None:
        return torch.ones(1, length, dtype=torch.bool)
    asked = torch.atleast_2d(asked)
    if len(asked) not in (1, rows):
        raise ValueError(
            f"cut at {site!r}: positions for {len(asked)} rows, but {rows} are changed"
        )
    found = torch.zeros(len(asked), length + 1, dtype=torch.bool)
    # The last column takes what this pass does not have.
    found.scatter_(1, torch.where(asked < 0, length, asked - offset), True)
    return found[:, :length]
