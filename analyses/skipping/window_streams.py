"""Blocks of a window side by side: streams after it, and how much pairs of blocks interact."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.hooks.replay import Recording
from layerscope.hooks.replaying.stage import Stage


class Interactions:
    """What a block adds, against what it adds without an earlier block's part of its input.

    ``found[s, l]`` is ``|f_l(h_l) - f_l(h_l - c_s)|`` at each token, ``[blocks, blocks, b, p]``, for
    l - s < `longest`: the direct effect of s on l, as a length.
    """

    def __init__(self, run: Recording, longest: int) -> None:
        self.states, self.longest = run.residuals, longest
        blocks, texts, positions = run.n_blocks, *self.states.shape[1:3]
        self.found = torch.zeros(blocks, blocks, texts, positions, dtype=torch.float64)
        self.evaluations = 0.0

    def __call__(self, stage: Stage) -> None:
        every = torch.arange(stage.prompts)
        for index in range(1, stage.blocks):
            earlier = range(max(0, index - self.longest + 1), index)
            own = self.states[index + 1] - self.states[index]
            fed = [self.states[index] - self.states[s + 1] + self.states[s] for s in earlier]
            left = stage.block(index, torch.cat(fed), every.repeat(len(fed)))
            for s, x, y in zip(earlier, fed, left.split(stage.prompts), strict=True):
                self.found[s, index] = (own - (y - x)).norm(dim=-1).double().cpu()
        self.evaluations = stage.evaluations


class Windows:
    """All windows that begin at one block, run beside each other to the last stream.

    A block is fed the window's input once for all windows that contain it. After the window come two
    rows: the window, and its control, moved as far in a random direction. Windows that begin at
    block 0 have one row before all others: the unchanged stream, for the noise floor.
    """

    def __init__(
        self,
        run: Recording,
        start: int,
        longest: int,
        interactions: Tensor,
        generator: torch.Generator,
    ) -> None:
        self.states, self.start, self.generator = run.residuals, start, generator
        self.interactions = interactions
        self.ends = list(range(start + 2, min(start + longest, run.n_blocks) + 1))
        self.moved: list[Tensor] = []
        """For each window ``[b, p]``: the error of the stream after it, relative to what it adds."""
        self.predicted: list[Tensor] = []
        """The same to first order: the interactions of its pairs of blocks."""
        self.last: Tensor | None = None
        """``[rows, b, p, d]`` last streams."""
        self.evaluations = 0.0

    @property
    def extra(self) -> int:
        """Rows before those of the windows."""
        return int(self.start == 0)

    def __call__(self, stage: Stage) -> None:
        every = torch.arange(stage.prompts)
        source, total = self.states[self.start], self.states[self.start + 1]
        after = [total] if self.extra else []
        for index in range(self.start + 1, stage.blocks):
            inside = index < self.ends[-1]
            rows = [*after, source] if inside else after
            parts = list(
                stage.block(index, torch.cat(rows), every.repeat(len(rows))).split(len(every))
            )
            if inside:
                total = total + parts.pop() - source
            after = parts
            if index + 1 in self.ends:
                after += self._ended(total, index + 1)
        self.last = torch.stack(after)
        self.evaluations = stage.evaluations

    def _ended(self, total: Tensor, end: int) -> list[Tensor]:
        right = self.states[end]
        error = (total - right).norm(dim=-1, keepdim=True)
        added = (right - self.states[self.start]).norm(dim=-1).clamp_min(1e-6).double().cpu()
        self.moved.append(error[..., 0].double().cpu() / added)
        pairs = self.interactions[self.start : end, self.start : end].sum((0, 1))
        self.predicted.append(pairs / added)
        drawn = torch.randn(right.shape, generator=self.generator).to(right)
        return [total, right + drawn * error / drawn.norm(dim=-1, keepdim=True)]
