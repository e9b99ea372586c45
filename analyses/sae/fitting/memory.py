"""How much memory a training takes at its peak, said before it starts."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from layerscope.analyses.sae.fitting.plan import Plan
from layerscope.analyses.sae.rows.source import Rows
from layerscope.store.disk import megabytes

FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for."""

    weights: int
    moments: int
    """Adam's two."""
    gradients: int
    latents: int
    """Pre-activations and codes of one batch, all latents."""
    rows: int
    """Inputs, targets, reconstructions and batches read ahead."""
    selected: int
    """Values and places of active latents."""
    backward: int
    """Tensors of batch x latents that are alive together with gradients."""
    reservoir: int = 0
    """Rows that their source keeps to shuffle them, at most."""

    @property
    def peak(self) -> int:
        """What is there all the time, and the larger of forward and backward pass."""
        always = self.weights + self.moments + self.reservoir
        forward = self.latents
        backward = self.gradients + self.backward
        return always + max(forward, backward) + self.rows + self.selected

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "Adam's moments": self.moments,
            "gradients": self.gradients,
            "batch x latents": max(self.latents, self.backward),
            "rows": self.rows + self.selected,
            "reservoir": self.reservoir,
        }
        said = ", ".join(f"{name} {megabytes(size)}" for name, size in parts.items() if size)
        return f"{megabytes(self.peak)} at the peak ({said})"


def estimate(
    *,
    group: int,
    latents: int,
    d_in: int,
    d_out: int,
    batch: int,
    k: int,
    copies: tuple[float, float],
    shared_rows: bool = True,
) -> Memory:
    """What a group of SAEs takes while it is trained.

    Args:
        group: SAEs trained together.
        latents: Of each.
        d_in: Width of the rows.
        d_out: Width of the targets.
        batch: Rows per step.
        k: Latents selected per row; 0 for architectures that select none.
        copies: Tensors of batch x latents alive at the peak of the forward and of the backward
            pass (`Architecture.copies`).
        shared_rows: Whether all SAEs see the same rows.
    """
    parameters = group * (latents * (d_in + d_out + 1) + d_out)
    wide = group * batch * latents * FLOAT
    inputs = (1 if shared_rows else group) * batch * (d_in + d_out)
    return Memory(
        weights=FLOAT * parameters,
        moments=2 * FLOAT * parameters,
        gradients=FLOAT * parameters,
        latents=round(copies[0] * wide),
        backward=round(copies[1] * wide),
        rows=FLOAT * (3 * inputs + 4 * group * batch * d_out),
        # Value, place in 64 and in 32 bits, gradient, and the sorted copies of both.
        selected=group * batch * k * 40,
    )


def say(plan: Plan, rows: Rows, progress: bool) -> None:
    """Say what will be needed; warn where it is not there."""
    needed = of_plan(plan, rows)
    if progress:
        print(f"memory: {needed}", file=sys.stderr)
    there = free(rows.device)
    if there is not None and needed.peak > there:
        smaller = "a smaller reservoir_rows, batch" if needed.reservoir else "a smaller batch"
        warnings.warn(
            f"this training needs {needed}, and {megabytes(there)} are free; {smaller} "
            f"({plan.batch:,} now) or width ({plan.latents:,}) needs less",
            stacklevel=5,
        )


def of_plan(plan: Plan, rows: Rows) -> Memory:
    """What this plan takes on the kind of device where its rows are."""
    fitting = estimate(
        group=plan.group,
        latents=plan.latents,
        d_in=plan.d_in,
        d_out=plan.d_out,
        batch=plan.batch,
        k=max(getattr(plan.architecture, "k", (0,))),
        copies=plan.architecture.copies(plan.latents, rows.device),
        shared_rows=plan.shared,
    )
    return replace(fitting, reservoir=rows.reserved)


def free(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if not table.is_file():
        return None
    lines = (line.split() for line in table.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
