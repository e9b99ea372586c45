"""P2H: a decoder that answers two-hop questions by a circuit of three known blocks.

The prompt is ``[entity, relation]``; the answer is ``second[first[entity]]``. The MLP of block
`bridge` looks the entity up in the first table (the bridge, at the entity's position), attention of
block `copy` carries the bridge to the last position, and the MLP of block `answer` looks it up in
the second table. Where the three stand decides what every what-if does, exactly; the methods of
`TwoHop` say what.

Residual index i is the input of block i (0: the embeddings; `n_blocks`: before the final norm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import transformers as hf
from torch import Tensor

from layerscope.planted.wiring import BIAS, blank, clear_, norm_factor, write_copy, write_table

ENTITIES = 6
WIDTH = 64
ENTITY, LAST = 0, 1
"""The two positions of a prompt."""

Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class TwoHop:
    """The model with its tables, and the right answer to every what-if about it."""

    model: hf.LlamaForCausalLM
    bridge: int
    """Block whose MLP knows the first hop."""
    copy: int
    """Block whose attention moves the bridge to the last position."""
    answer: int
    """Block whose MLP knows the second hop."""
    first: tuple[int, ...]
    second: tuple[int, ...]
    n_blocks: int

    @property
    def prompts(self) -> Tensor:
        """`[6, 2]` ids: every entity, followed by the relation."""
        relation = torch.full((ENTITIES,), ENTITIES)
        return torch.stack([torch.arange(ENTITIES), relation], 1)

    @property
    def answers(self) -> Tensor:
        """`[6]` ids of the right answers."""
        return torch.tensor([ENTITIES + 1 + self.second[self.first[e]] for e in range(ENTITIES)])

    @property
    def baseline_correct(self) -> bool:
        """Whether the untouched model answers right: attention runs before the MLP in a block."""
        return self.bridge < self.copy <= self.answer

    def program_correct(self, blocks: Sequence[int]) -> bool:
        """Whether running these blocks, in this order, answers right."""
        stage = 0  # 1: the bridge is known, 2: it is at the last position, 3: answered
        for block in blocks:
            # In the order of a block: attention first, then its MLP.
            stage = 2 if stage == 1 and block == self.copy else stage
            stage = 1 if stage == 0 and block == self.bridge else stage
            stage = 3 if stage == 2 and block == self.answer else stage
        return stage == 3

    def skip_correct(self, block: int) -> bool:
        """Whether the model answers right without this block."""
        return self.program_correct([i for i in range(self.n_blocks) if i != block])

    def back_patch(self, position: int) -> Pairs:
        """Pairs (source, target) of block outputs, source > target, that give the right answer."""
        pairs = [(s, t) for s, t in product(range(self.n_blocks), repeat=2) if s > t]
        b, p, c = self.bridge, self.copy, self.answer
        if self.baseline_correct:
            return frozenset(pairs)
        if position == ENTITY:
            return frozenset((s, t) for s, t in pairs if p <= c and s >= b and t < p)
        return frozenset((s, t) for s, t in pairs if b < p and s >= p and t < c)

    def knock_out_matters(self, window: tuple[int, int]) -> bool:
        """Whether the answer changes when the last position cannot see the entity in
        blocks ``window[0] <= block < window[1]``."""
        return self.baseline_correct and window[0] <= self.copy < window[1]

    def erasure_matters(self, index: int) -> bool:
        """Whether the answer changes when the entity's residual at `index` is set to zero."""
        return self.baseline_correct and index <= self.copy

    def lens_correct(self, index: int) -> bool:
        """Whether the residual of the last position at `index` decodes to the right answer."""
        return self.baseline_correct and index > self.answer

    def restored(self, index: int, positions: Sequence[int]) -> float:
        """Share of the answer restored by the clean residuals at `index` and `positions`, in a run
        whose entity was replaced: 0 or 1. Needs a model that answers right."""
        moved = index > self.copy
        return float((LAST if moved else ENTITY) in positions)


def two_hop(bridge: int, copy: int, answer: int, *, n_blocks: int = 8, seed: int = 0) -> TwoHop:
    """The decoder with its first hop, copy and second hop in the given blocks.

    Raises:
        ValueError: a block outside the model.
    """
    model = blank(n_blocks, WIDTH, 2 * ENTITIES + 1, 2 * ENTITIES)
    return rewired(model, bridge, copy, answer, seed=seed)


def rewired(
    model: hf.LlamaForCausalLM, bridge: int, copy: int, answer: int, *, seed: int = 0
) -> TwoHop:
    """The same, written over a model that `two_hop` built: cheaper than a new one."""
    n_blocks = model.config.num_hidden_layers
    outside = [i for i in (bridge, copy, answer) if not 0 <= i < n_blocks]
    if outside:
        raise ValueError(f"block {outside[0]} is outside the model's {n_blocks} blocks")
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(ENTITIES, generator=generator)
    second = torch.randperm(ENTITIES, generator=generator)
    clear_(model)
    _write(model, (bridge, copy, answer), first, second)
    tables = tuple(first.tolist()), tuple(second.tolist())
    return TwoHop(model, bridge, copy, answer, *tables, n_blocks)


@torch.no_grad()
def _write(
    model: hf.LlamaForCausalLM, blocks: tuple[int, int, int], first: Tensor, second: Tensor
) -> None:
    """Coordinates: the token, the bridge where it was found, its copy, the answer; and the bias."""
    n, width = ENTITIES, model.config.hidden_size
    identity = torch.eye(width)
    tokens, found, copied, answered = identity[:, : 5 * n + 1].split([2 * n + 1, n, n, n], 1)
    factor = norm_factor(model, BIAS**2)
    layers = model.model.layers
    model.model.embed_tokens.weight[:] += tokens.T
    # Both tables may be in one block: they have neurons of their own.
    write_table(layers[blocks[0]].mlp, tokens[:, :n], found[:, first], factor)
    # Two visible positions halve what attention finds at one of them.
    write_copy(layers[blocks[1]].self_attn, found, copied, 2 / factor)
    write_table(layers[blocks[2]].mlp, copied, answered[:, second], factor, first_neuron=n)
    model.lm_head.weight[n + 1 :] = 10 / factor * answered.T
    # Without an answer the relation token wins, by a hair.
    model.lm_head.weight[n, -1] = 0.01
