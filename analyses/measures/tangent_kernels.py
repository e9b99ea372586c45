"""The tangent kernel of a network: inner products of the gradients of its outputs, for all weights.

``K = J J^T`` with one row of J for each output of each sample. J itself (rows x weights) is held only a
few tensors at a time; where even that is too much, each row is sketched to a few thousand numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.probes.solving.solver import full_precision

Weights = Mapping[str, Tensor]
Sample = Callable[[Weights], Tensor]
"""Outputs ``[outputs]`` of one sample under these weights, differentiable in them."""
PASSES = 8
"""Times that all gradients may be computed again to keep within the memory; beyond, a sketch."""
COLUMNS = 4093
"""Of a sketch, for each tensor of weights: a prime, so that neither rows nor columns of it pile up."""


@dataclass(frozen=True)
class TangentKernel:
    """Kernels of parts of the weights; their sum is the kernel of the network."""

    parts: dict[str, Tensor]
    """Part -> ``[rows, rows]`` float64 on the CPU; rows are sample by sample, the outputs of one together."""
    sketched: bool

    @property
    def whole(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum(0)


def tangent_kernel(
    samples: Sequence[Sample],
    weights: Weights,
    part_of: Mapping[str, str],
    outputs: int,
    *,
    max_bytes: int = 1 << 29,
    seed: int = 0,
) -> TangentKernel:
    """Kernel of `samples` at `weights`, part by part.

    Args:
        samples: One function for each sample.
        weights: The weights to take gradients for; the functions may use others that stay fixed.
        part_of: The part each of them belongs to.
        outputs: How many outputs a sample has.
        max_bytes: Gradients held at a time. Up to `PASSES` times as much, they are computed in as many
            passes; above it, each gradient is sketched (random signs, sums of every `COLUMNS`-th
            weight), which leaves inner products right on average.
        seed: Of the sketch.
    """
    leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
    rows = len(samples) * outputs
    row_bytes = [rows * w.numel() * w.element_size() for w in leaves.values()]
    sketched = sum(row_bytes) > PASSES * max_bytes or max(row_bytes) > max_bytes
    chunks = [list(leaves)] if sketched else _chunks(leaves, rows, max_bytes)
    kernels: dict[str, Tensor] = {}
    for names in chunks:
        wide = {name: min(COLUMNS, leaves[name].numel()) if sketched else None for name in names}
        signs = _signs(leaves, seed) if sketched else {}
        held = _rows(samples, leaves, names, wide, signs, outputs)
        for name, j in held.items():
            with full_precision():
                product = (j @ j.T).double().cpu()
            part = part_of[name]
            kernels[part] = kernels[part] + product if part in kernels else product
    return TangentKernel(kernels, sketched)


def _chunks(leaves: Weights, rows: int, max_bytes: int) -> list[list[str]]:
    """Tensors whose gradients fit together."""
    chunks: list[list[str]] = [[]]
    taken = 0
    for name, w in leaves.items():
        size = rows * w.numel() * w.element_size()
        if taken + size > max_bytes and chunks[-1]:
            chunks.append([])
            taken = 0
        chunks[-1].append(name)
        taken += size
    return chunks


def _rows(
    samples: Sequence[Sample],
    leaves: Weights,
    names: Sequence[str],
    wide: Mapping[str, int | None],
    signs: Mapping[str, Tensor],
    outputs: int,
) -> dict[str, Tensor]:
    """Gradients of every output ``[rows, weights]``, or their sketches, for each of `names`."""
    chosen = [leaves[name] for name in names]
    held = {
        name: leaves[name].new_empty(len(samples) * outputs, wide[name] or leaves[name].numel())
        for name in names
    }
    for number, sample in enumerate(samples):
        place = slice(number * outputs, (number + 1) * outputs)
        out = sample(leaves)
        if out.shape != (outputs,):
            raise ValueError(f"sample {number} has outputs {tuple(out.shape)}, not ({outputs},)")
        for name, gradient in zip(names, _gradients(out, chosen), strict=True):
            flat = gradient.flatten(1)
            width = wide[name]
            held[name][place] = flat if width is None else _sketch(flat, signs[name], width)
    return held


def _gradients(out: Tensor, weights: Sequence[Tensor]) -> Iterator[Tensor]:
    """``[outputs, *shape]`` for each tensor; zeros where an output does not depend on it."""
    if not out.requires_grad:
        yield from (w.new_zeros(len(out), *w.shape) for w in weights)
        return
    one_by_one = [
        torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True) for value in out
    ]
    for w, column in zip(weights, zip(*one_by_one, strict=True), strict=True):
        yield torch.stack([torch.zeros_like(w) if g is None else g for g in column])


def _signs(leaves: Weights, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randint(2, (w.numel(),), generator=generator, dtype=torch.int8) * 2 - 1).to(
            w.device
        )
        for name, w in leaves.items()
    }


def _sketch(flat: Tensor, signs: Tensor, width: int) -> Tensor:
    """Random signs, then the sum of every `width`-th number: ``[rows, width]``."""
    padded = torch.nn.functional.pad(flat * signs, (0, -flat.shape[1] % width))
    return padded.view(len(flat), -1, width).sum(1)
