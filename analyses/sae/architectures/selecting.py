"""The largest of each row or of a whole matrix, without sorting all of it, and still exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FACTOR = 4
"""By how much a search widens where it was too narrow."""
SAMPLE = 32
"""Rows that tell where the border of a whole matrix may lie."""
SPARE = 2
"""Candidates for each value that is wanted."""


def largest(values: Tensor, start: int, short: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The largest of each row, descending, as many as the row needs.

    Rows that need no more than others keep `start` and are filled up with minus infinity, at
    places that are all different columns but may repeat those of the row.

    Args:
        values: [..., columns], finite, without a graph.
        start: How many to take at first.
        short: Told the largest so far [..., taken], says which rows need more, [...] bool. Rows
            of which all columns were taken never do.

    Returns:
        Values and places, [..., taken].
    """
    columns = values.shape[-1]
    top, places = values.topk(min(start, columns), dim=-1)
    while (taken := top.shape[-1]) < columns:
        needy = short(top)
        if not bool(needy.any()):
            break
        more = min(FACTOR * taken, columns)
        filler = torch.arange(taken, more, device=values.device)
        top = torch.cat([top, top.new_full((*top.shape[:-1], more - taken), -torch.inf)], dim=-1)
        places = torch.cat([places, filler.expand(*places.shape[:-1], -1)], dim=-1)
        top[needy], places[needy] = values[needy].topk(more, dim=-1)
    return top, places


def batch_largest(values: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    """The largest positive values of each whole matrix, exactly as many as asked for.

    A few rows give a bound that should let about twice as many pass; whether enough did is counted,
    and the bound lowered where not. Only what passed is searched, so that the result is that of
    sorting everything.

    Args:
        values: [group, rows, columns], finite, without a graph.
        counts: How many to select in each matrix; fewer where fewer are positive. Of equal values
            at the border the first are taken.

    Returns:
        Places [group, rows, most in a row], and which of them are selected, same shape; filled up
        with column 0.
    """
    chosen = [_chosen(matrix, count) for matrix, count in zip(values, counts, strict=True)]
    group, rows, _ = values.shape
    row = torch.cat([number * rows + row for number, (row, _) in enumerate(chosen)])
    column = torch.cat([column for _, column in chosen])
    used = row.bincount(minlength=group * rows)
    place = torch.arange(len(row), device=row.device) - (used.cumsum(0) - used)[row]
    most = max(1, int(used.max()))
    places = column.new_zeros(group * rows, most)
    places[row, place] = column
    keep = torch.arange(most, device=row.device) < used[:, None]
    return places.view(group, rows, most), keep.view(group, rows, most)


def _chosen(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows, ascending, and columns of the `count` largest positive values."""
    row, column = _candidates(matrix, count)
    if len(row) <= count:
        return row, column
    values = matrix[row, column]
    border = values.kthvalue(len(values) - count + 1).values
    keep = values > border
    on = values == border
    keep |= on & (on.cumsum(0) <= count - keep.sum())
    return row[keep], column[keep]


def _candidates(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of all values above some bound: at least `count` of them, or all that are positive."""
    sample = matrix[:: max(1, len(matrix) // SAMPLE)].flatten()
    wanted = SPARE * count * len(sample) / matrix.numel()
    while True:
        below = len(sample) - int(wanted)
        bound = sample.kthvalue(below).values.clamp(min=0) if below > 0 else sample.new_zeros(())
        row, column = (matrix > bound).nonzero(as_tuple=True)
        if len(row) >= count or bound == 0:
            return row, column
        wanted *= FACTOR
