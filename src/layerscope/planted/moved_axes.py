"""A linear net of two layers whose first reads four of eight axes: how far it moved is algebra."""

from __future__ import annotations

import torch
from torch import nn

INPUTS, READ = 8, 4


def moved_axes(by: int) -> nn.Sequential:
    """The net that reads axes `by` to ``by + 3``, with weights of 1, or of 2 where it has moved.

    On the eight unit vectors, and with P the projection on the axes that are read, the states have
    the Gram matrix P and the output has the tangent kernel ``4 I + P``; moved, ``4 P`` and
    ``4 I + 4 P``. So all alignments are traces of products of projections.

    Raises:
        ValueError: there are not so many axes.
    """
    if not 0 <= by <= INPUTS - READ:
        raise ValueError(f"by={by}: {READ} of {INPUTS} axes can move by 0 to {INPUTS - READ}")
    with torch.random.fork_rng(devices=[]):
        first, second = nn.Linear(INPUTS, READ, bias=False), nn.Linear(READ, 1, bias=False)
    size = 2.0 if by else 1.0
    with torch.no_grad():
        first.weight.copy_(size * torch.eye(INPUTS)[by : by + READ])
        second.weight.fill_(1.0)
    return nn.Sequential(first, second).eval()
