"""Latents that write nearly the same: neighbours by the cosine of decoder rows."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024
"""Rows of the dictionary that are compared with all of it at a time."""


def nearest(decoder: Tensor, keep: int, *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The `keep` latents of greatest cosine with each, itself left out; of equals the lower number.

    Args:
        decoder: ``[latents, width]``; a row of zeros has cosine 0 with everything.

    Returns:
        Latents and cosines, ``[latents, keep]``, greatest first; fewer columns where there are
        fewer other latents.
    """
    keep = min(keep, len(decoder) - 1)
    rows = decoder.float()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    index = torch.empty(len(rows), keep, dtype=torch.int64)
    cosine = torch.empty(len(rows), keep)
    for first in range(0, len(rows), block):
        near = rows[first : first + block] @ rows.T
        own = torch.arange(len(near), device=near.device)
        near[own, own + first] = -torch.inf
        # Largest by largest: torch.topk does not say which of several equals it takes.
        for place in range(keep):
            best = near.argmax(1)
            index[first : first + block, place] = best.cpu()
            cosine[first : first + block, place] = near[own, best].cpu()
            near[own, best] = -torch.inf
    return index, cosine.clamp(-1, 1)
