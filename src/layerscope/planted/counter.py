"""The counter decoder: every block adds a known number to a counter, modulo a known number.

The prompt is one token, the start; the answer is where the counter stands. What a program of
blocks (skipped, repeated, reordered) answers is therefore a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers as hf
from torch import Tensor

from layerscope.planted.wiring import BIAS, blank, norm_factor, write_table

STEPS = (0, 0, 1, 3, 0, 1)
"""The full pass adds 5. Skipping blocks reaches 1 and 3 with one block, 2 and 4 with two, 5 with
three, and 6 never; block 3 run twice gives 6."""


@dataclass(frozen=True, eq=False)
class Counter:
    """The model, and what it answers."""

    model: hf.LlamaForCausalLM
    steps: tuple[int, ...]
    """What each block adds."""
    modulus: int

    @property
    def n_blocks(self) -> int:
        return len(self.steps)

    def prompt(self, start: int = 0) -> Tensor:
        """`[1, 1]` ids."""
        return torch.tensor([[start % self.modulus]])

    def result(self, blocks: Sequence[int], start: int = 0) -> int:
        """The answer token of a program of blocks."""
        return (start + sum(self.steps[block] for block in blocks)) % self.modulus


def counter(steps: Sequence[int] = STEPS, modulus: int = 7) -> Counter:
    """A stock Llama without attention that counts; the residual stream holds the state one-hot.

    Raises:
        ValueError: no blocks, or a modulus below 2.
    """
    if not steps or modulus < 2:
        raise ValueError(f"a counter needs blocks and a modulus of 2 or more, got {modulus}")
    width = (modulus + 4) // 2 * 2  # rotary embedding wants it even
    model = blank(len(steps), width, modulus, modulus)
    state = torch.eye(width)[:, :modulus]
    factor = norm_factor(model, BIAS**2 + 1)
    with torch.no_grad():
        model.model.embed_tokens.weight[:] += state.T
        model.lm_head.weight[:] = 10 / factor * state.T
    for block, step in zip(model.model.layers, steps, strict=True):
        # Exact but for rounding: the state stays one-hot, so its length never changes.
        write_table(block.mlp, state, state.roll(-step, 1) - state, factor)
    return Counter(model, tuple(steps), modulus)
