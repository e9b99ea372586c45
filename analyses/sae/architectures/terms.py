"""Pieces that the losses share: the squared error, what dense codes show, options of each SAE."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import Tensor


def each(values: tuple[float, ...], like: Tensor) -> Tensor:
    """An option as a tensor [group], or [1] where all SAEs of the group have the same."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)


def squared_error(y: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean over rows of the squared norm of what is missing, [group]."""
    return (y - reconstruction).square().sum(-1).mean(-1)


@torch.no_grad()
def l0(codes: Tensor) -> Tensor:
    """Mean number of non-zero codes per row, [group], of dense codes [group, batch, latents]."""
    return (codes != 0).sum(-1).float().mean(-1)


@torch.no_grad()
def active(codes: Tensor) -> Tensor:
    """Latents that are non-zero at some row, [group, latents] bool, of dense codes."""
    return (codes != 0).any(1)


def settle(architecture: object, name: str, *, least: float, whole: bool = False) -> None:
    """Makes an option of numbers a tuple, also where one number was given, and checks its range.

    Args:
        architecture: Whose; frozen, and in the making.
        name: Of the option.
        least: The smallest value that makes sense.
        whole: Whether only whole numbers do.

    Raises:
        ValueError: says what was given and what would do.
    """
    given = getattr(architecture, name)
    values = tuple(given) if isinstance(given, (tuple, list, range)) else (given,)
    kind = Integral if whole else Real
    if not values or not all(_is(value, kind) and value >= least for value in values):
        raise ValueError(
            f"{name}={given!r}: give {'whole numbers' if whole else 'numbers'} of at least "
            f"{least:g}, one or a tuple of them"
        )
    object.__setattr__(architecture, name, values)


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
