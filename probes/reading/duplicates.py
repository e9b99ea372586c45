"""Rows that are nearly the same on both sides of a split: what is known of the one is known of both."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.probes.solving.design import Design

NEAR = 1e-3
"""Distance of two rows, as a share of the root mean square length of standardised rows."""
NARROW = 16
"""Below this width rows come near each other by chance, and only equal ones count."""
_WINDOW = 3
_BLOCK = 8192


def straddling(design: Design, *, seed: int = 0) -> int:
    """How many rows have a near copy in another fold.

    Rows are sorted along one random direction, where copies are neighbours, and compared with the
    next three. Equal rows are all found; of nearly equal ones some may be missed.
    """
    x = design.x[:, :-1]
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(design.width, generator=generator).to(x.device)
    order = (x @ direction).sort(stable=True).indices
    limit = NEAR**2 * design.width if design.width >= NARROW else 0.0
    folds = _folds(design)[order]
    marked = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    near = {step: _near(x, order, step, limit) for step in range(1, _WINDOW + 1)}
    # Runs of copies: row i + 1 begins a new run unless it is near row i.
    runs = torch.cat([near[1].new_zeros(1), ~near[1]]).cumsum(0)
    count = int(runs[-1]) + 1
    ends = [torch.zeros(count, dtype=folds.dtype, device=x.device) for _ in range(2)]
    lowest = ends[0].scatter_reduce(0, runs, folds, "amin", include_self=False)
    highest = ends[1].scatter_reduce(0, runs, folds, "amax", include_self=False)
    marked |= (lowest < highest)[runs]
    for step in range(2, _WINDOW + 1):
        pairs = near[step] & (folds[step:] != folds[:-step])
        marked[step:] |= pairs
        marked[:-step] |= pairs
    return int(marked.sum())


def _near(x: Tensor, order: Tensor, step: int, limit: float) -> Tensor:
    """``[rows - step]`` whether each row in this order is near the one `step` places on."""
    parts = []
    for start in range(0, max(0, len(order) - step), _BLOCK):
        here = order[start : start + _BLOCK + step]
        rows = x[here]
        parts.append((rows[step:] - rows[:-step]).square().sum(1) <= limit)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool, device=x.device)


def _folds(design: Design) -> Tensor:
    sizes = [design.bounds[f + 1] - design.bounds[f] for f in design.folds]
    numbers = torch.arange(len(sizes), device=design.x.device)
    return numbers.repeat_interleave(torch.tensor(sizes, device=design.x.device))
