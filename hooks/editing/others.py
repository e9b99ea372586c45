"""What other rows have where a change is made: the batch mean, another row, a row of a pool."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from layerscope.hooks.editing.spot import Spot


def batch_mean(spot: Spot) -> Tensor:
    """Mean over the rows and positions of the pass, with one row and position; no padding."""
    x = spot.inward(spot.own_batch())
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    real = None if spot.axes.positions is None else spot.real
    if real is not None and spot.own is not None and len(real) == len(spot.whole):
        real = real[spot.own.to(real.device)]
    if real is not None and real.shape == x.shape[:2]:
        wide = wide[real.to(x.device)][None]
    over = (0,) if spot.axes.positions is None else (0, 1)
    found = wide.mean(over, keepdim=True).to(x.dtype)
    if spot.heads is not None:
        found = found.index_select(2, spot.heads.to(x.device))
    return spot.outward(found)


def another_row(spot: Spot, generator: torch.Generator) -> Tensor:
    """What another row of the batch has there; no row gets its own.

    Raises:
        ValueError: there is no other row.
    """
    x = spot.own_batch()
    if len(x) < 2:
        raise ValueError(
            f"resample at {spot.site!r}: the batch has one row, so there is no other to take "
            "from; give a pool, or a batch of several texts"
        )
    # A random cycle: nobody stays in place.
    order = torch.randperm(len(x), generator=generator)
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    picked = x[others[spot.own_rows()].to(x.device)]
    there = replace(spot, batch=torch.arange(len(picked)))
    return there.outward(there.inward(picked)[there.index(picked.device)])


def drawn(spot: Spot, part: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of a pool: whole texts for rows, or single vectors for each row and position."""
    count = len(spot.whole if spot.own is None else spot.own)
    if pool.ndim == part.ndim and spot.axes.positions is not None:
        draw = torch.randint(len(pool), (count,), generator=generator)
        return spot.same_place(pool[draw.to(pool.device)], part)
    if spot.axes.positions is None:
        draw = torch.randint(len(pool), (count,), generator=generator)[spot.own_rows()]
        return spot.fitted(pool[draw.to(pool.device)], part)
    # Position after position, so that a longer text draws the same for its first positions.
    last = int(spot.absolute().max())
    table = torch.randint(len(pool), (last + 1, count), generator=generator).T
    draw = table[spot.own_rows()[:, None], spot.absolute().clamp_min(0)]
    picked = pool[draw.to(pool.device)]
    if spot.axes.heads is not None and picked.ndim < part.ndim:
        picked = picked.unsqueeze(2)
    if picked.ndim != part.ndim or picked.shape[-1] != part.shape[-1]:
        raise spot.misfit(list(pool.shape), part)
    return spot.outward(picked).to(part.device, part.dtype).expand(part.shape)
