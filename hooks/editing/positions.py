"""Which positions and rows of a batch a change is for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Positions = int | slice | Sequence[int] | Tensor | None
"""One position, a slice, several, or a tensor [rows, k] with own positions for each row; None: all.
Absolute: with a cache they count from the start of the prompt. Negative ones count from the end of
a pass that begins at position 0."""

Rows = int | slice | Sequence[int] | Tensor | None
"""One row of the batch, a slice, or several; None: all."""


def checked(at: Positions, what: str = "at") -> Positions:
    """`at` as an int, a slice, a LongTensor (1-D, or 2-D with own positions for each row) or None.

    Raises:
        TypeError: it is something else.
        ValueError: it has more than two axes.
    """
    if at is None or isinstance(at, slice) or (isinstance(at, int) and not isinstance(at, bool)):
        return at
    if not isinstance(at, (Tensor, Sequence)) or isinstance(at, (str, bytes)):
        raise TypeError(f"{what}={at!r}: give an int, a slice, several ints or a LongTensor")
    found = torch.as_tensor(at)
    if not found.numel():
        return torch.zeros(0, dtype=torch.long)
    if found.is_floating_point() or found.dtype == torch.bool:
        raise TypeError(
            f"{what} holds {found.dtype}, but positions and rows are integers; of a boolean mask, "
            "take mask.nonzero()[:, 0]"
        )
    if found.ndim == 0:
        return int(found)
    if found.ndim > 2:
        raise ValueError(f"{what} has shape {list(found.shape)}: give one or two axes of integers")
    return found.detach().long().cpu()


def earliest(at: Positions, length: int) -> int:
    """The first position that `at` names in a prompt of `length` positions.

    >>> earliest(None, 9), earliest(-1, 9), earliest([5, 3], 9), earliest(slice(-2, None), 9)
    (0, 8, 3, 7)
    """
    if at is None:
        return 0
    if isinstance(at, slice):
        return min(range(length)[at], default=length)
    found = torch.as_tensor(at)
    return int(torch.where(found < 0, found + length, found).min()) if found.numel() else length


def positions_in(
    at: Positions, offset: int, length: int, site: str, end: int | None = None
) -> Tensor | None:
    """Absolute positions [k] or [rows, k]; those that this pass does not have are -1. None: all.

    Args:
        at: As the user gave it.
        offset: Absolute position of the first one of this pass.
        length: How many positions the pass has.
        site: For the error.
        end: Where the prompt ends, from which negative positions count; None: at the end of a pass
            that begins at 0, and not known in any other.

    Raises:
        IndexError: a negative position beyond the start of the prompt.
    """
    if at is None:
        return None
    if end is None and offset == 0:
        end = length
    if isinstance(at, slice):
        return torch.tensor(_of_slice(at, offset, length, end), dtype=torch.long)
    asked = torch.atleast_1d(torch.as_tensor(at, dtype=torch.long))
    low = int(asked.min()) if asked.numel() else 0
    if end is not None and low < -end:
        raise IndexError(
            f"position {low} of {site!r}: the prompt has {end} positions, {-end} to {end - 1}"
        )
    found = asked if end is None else torch.where(asked < 0, asked + end, asked)
    here = (found >= offset) & (found < offset + length)
    return torch.where(here, found, -1)


def highest(at: Positions) -> int:
    """The highest position that `at` names by a number from the front; -1 where there is none."""
    if at is None or isinstance(at, slice):
        return -1
    found = torch.as_tensor(at)
    return max(-1, int(found.max())) if found.numel() else -1


def is_empty(at: Positions) -> bool:
    """Whether `at` is an empty list: nothing is asked for, which is no mistake."""
    return isinstance(at, Tensor) and not at.numel()


def passed_by(at: Positions, offset: int, length: int) -> int:
    """How many positions of a slice come before this pass: values for it begin there."""
    if not isinstance(at, slice) or not offset:
        return 0
    return sum(i < offset for i in range(offset + length)[at])


def rows_in(rows: Rows, count: int, site: str, what: str = "row") -> Tensor | None:
    """Rows (or heads) out of `count`, [r]; None: all.

    Raises:
        IndexError: one that does not exist.
    """
    if rows is None:
        return None
    if isinstance(rows, slice):
        return torch.arange(count)[rows]
    asked = torch.atleast_1d(torch.as_tensor(rows, dtype=torch.long))
    wrong = asked[(asked < -count) | (asked >= count)]
    if len(wrong):
        holder = "batch" if what == "row" else "site"
        raise IndexError(f"{what} {int(wrong[0])} of {site!r}: the {holder} has {count} {what}s")
    return torch.where(asked < 0, asked + count, asked)


def _of_slice(at: slice, offset: int, length: int, end: int | None) -> range:
    """A slice of the whole sequence so far, as far as this pass has it."""
    counts_back = any(x is not None and x < 0 for x in (at.start, at.stop, at.step))
    if counts_back and end is None:
        return range(0)
    whole = range(end if counts_back and end is not None else offset + length)[at]
    inside = [i for i, p in enumerate(whole) if offset <= p < offset + length]
    return whole[inside[0] : inside[-1] + 1] if inside else range(0)
