"""How the directions of a dictionary lie to each other, and to directions that are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

BLOCK = 1024
"""Directions whose cosines to all others are worked on at a time."""
TWIN = 0.9
"""Cosine above which two latents write about the same."""


@dataclass(frozen=True)
class Geometry:
    """Of [latents] directions."""

    nearest: Tensor
    """[latents] largest cosine to another direction."""
    nearest_index: Tensor
    """[latents] which one."""
    coherence: Tensor
    """[latents] largest absolute cosine to another direction."""


@torch.no_grad()
def geometry(directions: Tensor, *, block: int = BLOCK) -> Geometry:
    """Nearest directions of each, in blocks: nothing of size latents x latents is ever held.

    Args:
        directions: [latents, d], of any length; a direction of length 0 has cosine 0 to all.
        block: Directions at a time.

    Raises:
        ValueError: fewer than two directions.
    """
    if len(directions) < 2:
        raise ValueError(f"{len(directions)} direction(s): a nearest other one needs at least two")
    unit = _unit(directions)
    nearest, index, coherence = [], [], []
    with full_precision():
        for start in range(0, len(unit), block):
            cosines = unit[start : start + block] @ unit.T
            own = torch.arange(len(cosines), device=unit.device)
            cosines[own, start + own] = -torch.inf
            best = cosines.max(1)
            cosines[own, start + own] = 0.0
            nearest.append(best.values)
            index.append(best.indices)
            coherence.append(cosines.abs().amax(1))
    return Geometry(torch.cat(nearest), torch.cat(index), torch.cat(coherence))


def paired_cosines(encoder: Tensor, decoder: Tensor) -> Tensor:
    """[latents] cosine of each latent's encoder and decoder direction, [latents, d] both."""
    return (_unit(encoder) * _unit(decoder)).sum(1)


@dataclass(frozen=True)
class Matched:
    """A dictionary beside directions that are known; cosines are absolute unless signed."""

    mcc: float
    """Mean cosine of pairs, matched one to one so that the sum is largest."""
    mmcs: float
    """Mean over the known directions of the largest cosine to a latent."""
    uniqueness: float
    """Distinct known directions that are nearest to some latent, over the number of latents."""
    latent: NDArray[np.int64]
    """[known] latent that each known direction is matched with; -1 where there are fewer latents."""
    cosine: NDArray[np.float64]
    """[known] cosine of the pair; NaN where there is none."""


def matched(directions: Tensor, reference: Tensor, *, signed: bool = False) -> Matched:
    """Match a dictionary with planted directions (Hungarian algorithm, as SAELens' synthetic evals).

    Args:
        directions: [latents, d].
        reference: [known, d].
        signed: Whether opposite directions count as different, as they must where features come in
            opposite pairs (superposition in few dimensions).

    Raises:
        ValueError: widths that differ, or no direction.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(directions) or not len(reference) or directions.shape[1] != reference.shape[1]:
        raise ValueError(
            f"a dictionary {list(directions.shape)} and reference directions "
            f"{list(reference.shape)} cannot be compared; both are [number, d] of the same d"
        )
    with full_precision():
        cosines = _unit(directions).double() @ _unit(reference.to(directions.device)).double().T
    cosines = cosines if signed else cosines.abs()
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    latent = np.full(len(reference), -1, dtype=np.int64)
    cosine = np.full(len(reference), np.nan)
    latent[columns], cosine[columns] = rows, cosines.cpu().numpy()[rows, columns]
    return Matched(
        mcc=float(np.nanmean(cosine)),
        mmcs=float(cosines.amax(0).mean()),
        uniqueness=len(cosines.argmax(1).unique()) / len(directions),
        latent=latent,
        cosine=cosine,
    )


def _unit(x: Tensor) -> Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    found: Tensor = x / x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return found
