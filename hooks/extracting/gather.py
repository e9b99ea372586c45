"""From the tensor of a site, `[batch, position, ...]`, to rows `[rows, width]`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WITHOUT_ROWS = ("pattern",)
BY_HEAD = ("q", "k", "v")


@dataclass(frozen=True)
class Gather:
    """Which positions of a padded batch make which rows.

    Position `take[i]` (counted over the flattened batch) belongs to row `row[i]`; a row of several
    positions is their mean.
    """

    take: Tensor
    """`[m]` flat positions, batch index times padded length plus position."""
    row: Tensor | None = None
    """`[m]` row of each position; None where every position is its own row."""
    count: Tensor | None = None
    """`[rows, 1]` positions of each row, with `row`."""

    def to(self, device: torch.device) -> Gather:
        if self.row is None or self.count is None:
            return Gather(send(self.take, device))
        return Gather(send(self.take, device), send(self.row, device), send(self.count, device))

    def __call__(self, x: Tensor) -> Tensor:
        """`[batch, position, width]` -> `[rows, width]`; means are taken in float32 or better."""
        picked = x.reshape(-1, x.shape[-1]).index_select(0, self.take)
        if self.row is None or self.count is None:
            return picked
        wide = picked.to(torch.promote_types(picked.dtype, torch.float32))
        total = wide.new_zeros(len(self.count), x.shape[-1])
        return total.index_add_(0, self.row, wide) / self.count


def send(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`; to CUDA from pinned memory, so that nobody waits for the copy."""
    if device.type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def flatten_heads(site: str, x: Tensor) -> Tensor:
    """`[batch, position, width]` of any site: heads are laid side by side.

    Raises:
        ValueError: the site has no vector for each position (`pattern`).
    """
    part = site.rpartition(".")[2]
    if part in WITHOUT_ROWS:
        raise ValueError(
            f"{site}: attention patterns are no vectors of one width, so a store cannot hold them; "
            "read them with capture()"
        )
    if x.ndim == 4 and part in BY_HEAD:
        x = x.transpose(1, 2)
    return x.flatten(2) if x.ndim > 3 else x


def reduce_sample(x: Tensor, rule: str, n: int) -> Tensor:
    """`[n, rows of a sample, width]` from the output of a model that does not read text.

    Args:
        x: `[n, width]`, a sequence `[n, positions, width]` (or `[positions, n, width]` from a
            recurrent layer that is not batch-first), or feature maps `[n, channels, ...]`.
        rule: ``"mean"`` over positions, ``"flatten"``, or ``"positions"`` (one row for each).
        n: Samples in the batch.
    """
    if x.ndim == 1:
        x = x.unsqueeze(1)
    if x.ndim == 2:
        return x.unsqueeze(1)
    if x.ndim == 3 and x.shape[0] != n and x.shape[1] == n:
        x = x.transpose(0, 1)
    if x.shape[0] != n:
        raise ValueError(
            f"the batch has {n} samples, but this site gives a tensor of shape {tuple(x.shape)}; "
            "rows cannot be told apart"
        )
    maps = x.flatten(2).transpose(1, 2) if x.ndim > 3 else x
    if rule == "flatten":
        return x.flatten(1).unsqueeze(1)
    return maps if rule == "positions" else maps.mean(1, keepdim=True)
