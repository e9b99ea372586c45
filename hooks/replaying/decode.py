"""Greedy continuation of many what-ifs at once, from the keys and values they left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.edits import Change, Writer
from layerscope.hooks.replaying.inputs import Inputs
from layerscope.hooks.replaying.lanes import Lanes
from layerscope.hooks.replaying.recording import Pass, logits_of
from layerscope.hooks.replaying.stage import Stage, fresh_slot


def slots_of(work: Pass, stage: Stage, lanes: Lanes) -> list[Any]:
    """For each layer of the cache the keys and values of all rows, over all positions."""
    slots = []
    for index in range(work.blocks):
        if index in stage.filled:
            slot = copy(stage.filled[index])
            slot.batch_select_indices(lanes.places(index).to(slot.keys.device))
        else:
            slot = fresh_slot(work.cache.layers[index], work.positions, lanes.rows.of)
        slots.append(slot)
    return slots


def continue_from(
    work: Pass,
    slots: Sequence[Any],
    logits: Tensor,
    of: Tensor,
    lasting: Mapping[str, Sequence[Change]],
    tokens: int,
) -> Tensor:
    """Greedy tokens [n, at most `tokens`] of rows whose cache is given; they end with the end token.

    Args:
        work: The recorded pass.
        slots: Layers of the cache, n rows each.
        logits: The rows' logits at the last position, [n, vocab].
        of: The prompt of each row, [n].
        lasting: Changes at every position, which are made to the new tokens as well.
        tokens: The most tokens to make.
    """
    cache = work.cache_of(slots)
    inputs = work.inputs.of(of)
    tail = Tail(inputs, end_tokens(work.model))
    tail.add(logits.argmax(-1))
    while tail.length < tokens and not tail.done:
        step = tail.step()
        with Writer(work.model, lasting).writing() if lasting else nullcontext():
            output = work.model(**step, past_key_values=cache, use_cache=True)
        tail.add(logits_of(work, output)[:, -1].argmax(-1))
    return tail.tokens


def continue_with_hooks(
    work: Pass,
    inputs: Inputs,
    changes: Mapping[str, Sequence[Change]],
    tokens: int,
    logits: Tensor,
) -> Tensor:
    """The same by a whole pass for each token, with the changes at the same absolute positions."""
    tail = Tail(inputs, end_tokens(work.model))
    tail.add(logits.argmax(-1))
    while tail.length < tokens and not tail.done:
        with Writer(work.model, changes).writing():
            output = work.model(*inputs.args, **tail.whole())
        tail.add(logits_of(work, output)[:, -1].argmax(-1))
    return tail.tokens


def end_tokens(model: nn.Module) -> Tensor:
    """The ids that end a generation; may be none."""
    config = getattr(model, "generation_config", None)
    ends = getattr(config, "eos_token_id", None)
    return torch.tensor([] if ends is None else ends, dtype=torch.long).reshape(-1)


class Tail:
    """The tokens made so far, and how the model is called for the next."""

    def __init__(self, inputs: Inputs, ends: Tensor) -> None:
        if inputs.ids is None:
            raise ValueError("generate continues token ids; this batch has no input_ids")
        self._inputs = inputs
        self._ends = ends.to(inputs.ids.device)
        self._made: list[Tensor] = []
        self._ended = torch.zeros(inputs.prompts, dtype=torch.bool, device=inputs.ids.device)

    @property
    def length(self) -> int:
        return len(self._made)

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return bool(self._ended.all())

    @property
    def tokens(self) -> Tensor:
        """[n, made so far]."""
        return torch.stack(self._made, 1)

    def add(self, chosen: Tensor) -> None:
        """Take the next token of each row; a row that has ended repeats its end token."""
        if self._made:
            chosen = torch.where(self._ended, self._made[-1], chosen)
        self._made.append(chosen)
        self._ended = self._ended | torch.isin(chosen, self._ends)

    def step(self) -> dict[str, Tensor]:
        """Arguments for the latest token alone, after a cache of all others."""
        more: dict[str, Tensor] = {"input_ids": self._made[-1][:, None]}
        positions = self._inputs.kwargs.get("position_ids")
        if positions is not None:
            more["position_ids"] = positions[:, -1:] + self.length
        return more | self._mask()

    def whole(self) -> dict[str, Any]:
        """Arguments for prompt and tokens together."""
        assert self._inputs.ids is not None
        more: dict[str, Any] = dict(self._inputs.kwargs)
        more["input_ids"] = torch.cat([self._inputs.ids, self.tokens], 1)
        positions = more.get("position_ids")
        if positions is not None:
            steps = torch.arange(1, self.length + 1, device=positions.device)
            more["position_ids"] = torch.cat([positions, positions[:, -1:] + steps], 1)
        return more | self._mask()

    def _mask(self) -> dict[str, Tensor]:
        mask = self._inputs.kwargs.get("attention_mask")
        if mask is None:
            return {}
        return {"attention_mask": torch.cat([mask, mask.new_ones(len(mask), self.length)], 1)}
