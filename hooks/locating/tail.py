"""What a model does to its unembedding's output to make logits, found by an experiment.

During the watched pass the output is replaced by chosen numbers; the logits that come out show the
function between the two: nothing, a scale, a soft cap, a bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MASKED = torch.finfo(torch.bfloat16).min / 2
"""Logits below this are masks, not numbers."""


@dataclass(frozen=True)
class Tail:
    """logits = f(unembedding)."""

    formula: str | None
    """In words; None where it was not recognised."""
    error: float | None
    """Largest relative error of the formula."""
    detail: str = ""


def staircase(output: Tensor) -> Tensor:
    """Numbers to put in place of the unembedding's output: sizes from 0.01 to 1,000, both signs."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(output.shape, generator=generator)
    rows = output.numel() // output.shape[-1]
    sizes = torch.logspace(-2, 3, rows).reshape(*output.shape[:-1], 1)
    return (noise * sizes).to(output.device, output.dtype)


def tail_of(given: Tensor, logits: Tensor) -> Tail:
    """The simplest formula that turns `given` (what was put in) into `logits` (what came out)."""
    if given.shape != logits.shape:
        return _sliced(given, logits)
    epsilon = max(torch.finfo(x.dtype).eps for x in (given, logits))
    put, got = (x.detach().to("cpu", torch.float64).flatten(0, -2) for x in (given, logits))
    kept = got.isfinite() & (got > MASKED)
    masked = int((~kept).any(0).sum())
    note = f"{masked} vocabulary entries are masked" if masked else ""
    put, got = (torch.where(kept, x, 0.0) for x in (put, got))
    for formula, guess in _guesses(put, got):
        error = float(((guess - got).abs() / (got.abs() + put.abs() + 1e-6)).max())
        if error <= 16 * epsilon:
            return Tail(formula, error, note)
    return Tail(None, None, "the logits are another function of the unembedding's output")


def _sliced(given: Tensor, logits: Tensor) -> Tail:
    """Part of the vocabulary, or one of several predictions, kept as it is."""
    if given.shape[:-1] == logits.shape[:-1] and given.shape[-1] > logits.shape[-1]:
        inner = tail_of(given[..., : logits.shape[-1]], logits)
        kept = f"the first {logits.shape[-1]} of {given.shape[-1]} entries"
        return Tail(inner.formula, inner.error, kept)
    for axis in range(1, given.ndim - 1):
        for i, part in enumerate(given.unbind(axis)):
            if part.shape == logits.shape and torch.equal(part, logits.to(part.dtype)):
                return Tail("unembedding", 0.0, f"entry {i} of its axis {axis}")
    return Tail(None, None, f"shape {tuple(given.shape)} became {tuple(logits.shape)}")


def _guesses(put: Tensor, got: Tensor) -> list[tuple[str, Tensor]]:
    scale = _slope(put, got)
    # tanh saturates just below the cap, so the largest logit is the cap to a few digits.
    cap = float(f"{float(got.abs().max()):.5g}")
    small = got.abs() < cap / 2
    slope = _slope(put[small], torch.atanh(got[small] / cap) * cap) if cap else 0.0
    slope = 1.0 if abs(slope - 1) < 1e-3 else slope
    inner = "unembedding" if slope == 1.0 else f"{slope:.4g} * unembedding"
    offset = (got - put).mean(0)
    return [
        ("unembedding", put),
        (f"{scale:.6g} * unembedding", scale * put),
        (f"{cap:g} * tanh({inner} / {cap:g})", cap * torch.tanh(slope * put / max(cap, 1e-30))),
        ("unembedding + a bias of its own", put + offset),
    ]


def _slope(x: Tensor, y: Tensor) -> float:
    total = float((x * x).sum())
    return float((x * y).sum()) / total if total else 0.0
