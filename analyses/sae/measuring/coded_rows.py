"""Codes of rows, a block at a time: class means of all latents, and single latents as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows

Coder = Callable[[Tensor], Tensor]
"""x [rows, d_in] -> codes [rows, latents]."""


def coded(
    rows: MeasuredRows, coder: Coder, latents: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """`(which rows, codes)` of all rows, never of all at once."""
    with torch.no_grad():
        for part, x, _, _ in rows.blocks(latents, device):
            yield part, coder(x)


def class_gaps(
    rows: MeasuredRows, coder: Coder, latents: int, device: torch.device, members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[classes, latents] mean of each latent inside a class minus the mean outside.

    Args:
        rows: Which rows.
        coder: Gives the codes.
        latents: How many there are.
        device: Where to work.
        members: [classes, rows]; a row that no class may see is False in all, and must be left out
            of `rows` instead.
    """
    inside = torch.zeros(len(members), latents, dtype=torch.float64)
    whole = torch.zeros(latents, dtype=torch.float64)
    for part, codes in coded(rows, coder, latents, device):
        mask = torch.from_numpy(members[:, part]).to(codes)
        inside += (mask @ codes).double().cpu()
        whole += codes.sum(0, dtype=torch.float64).cpu()
    count = torch.from_numpy(members.sum(1).astype(np.float64))[:, None]
    outside = (whole - inside) / (len(rows) - count)
    found: NDArray[np.float64] = (inside / count - outside).numpy()
    return found


def columns(
    rows: MeasuredRows,
    coder: Coder,
    latents: int,
    device: torch.device,
    chosen: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[rows, chosen] codes of some latents."""
    index = torch.from_numpy(chosen).to(device)
    parts = [codes[:, index].double().cpu() for _, codes in coded(rows, coder, latents, device)]
    found: NDArray[np.float64] = torch.cat(parts).numpy()
    return found
