"""Where blocks are run one by one: each with the arguments its model made for it, on any rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from layerscope.hooks.replaying.rewire import Call

Axes = Mapping[int, Sequence[int | None]]
"""For each block: for each leaf of its arguments, the axis of the prompts."""


@dataclass
class Stage:
    """The blocks of a model, ready to be run in any order on any streams.

    `run.perform(play)` calls ``play(stage)``; what it returns goes on to the final norm and head.
    """

    calls: Mapping[int, Call]
    prompts: int
    """How many prompts the model was called with."""
    positions: int
    """How many positions of each prompt are computed."""
    share: float
    """The layer-evaluations of one row: its share of computed positions."""
    axes: Axes
    slots: Callable[[int, Tensor], Any] | None = None
    """Keys and values of the positions before, for block and prompts; None without a cache."""
    keep_slots: bool = False
    """Whether to keep the keys and values that blocks leave behind."""
    evaluations: float = 0.0
    """Layer-evaluations so far: one is one block on all positions of one prompt."""
    block_calls: int = 0
    filled: dict[int, Any] = field(default_factory=dict)
    """The cache slot that the latest call of each block left behind."""
    last: Any = None
    """What the block that ran last returned."""

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.calls)

    @property
    def stream(self) -> Tensor:
        """What enters block 0: [prompts, positions, d]."""
        return self.calls[0].stream

    def block(
        self, index: int, stream: Tensor, of: Tensor | None = None, *, slot: Any = None
    ) -> Tensor:
        """Run one block.

        Args:
            index: Which block.
            stream: Residual stream that enters it, [rows, positions, d].
            of: For each row, the prompt whose mask, positions and cached keys it uses, [rows];
                by default the prompts in order.
            slot: Cache slot to read and extend, in place of the recorded one.

        Returns:
            The residual stream that leaves it, [rows, positions, d].
        """
        call = self.calls[index]
        rows = torch.arange(self.prompts) if of is None else of
        if len(rows) != len(stream):
            raise ValueError(f"{len(stream)} rows enter block {index}, of names {len(rows)}")
        args, kwargs = self._arguments(call, rows)
        cache = _cache_in(args, kwargs)
        number = _slot_number(call.block, index)
        if slot is None and self.slots is not None:
            slot = self.slots(index, rows)
        if cache is not None and slot is not None:
            cache.layers[number] = slot
        # Some blocks add to the stream they are given in place.
        self.last = call.run(stream.clone(), args, kwargs)
        if cache is not None and self.keep_slots:
            self.filled[index] = cache.layers[number]
        self.evaluations += len(stream) * self.share
        self.block_calls += 1
        return call.left(self.last)

    def _arguments(self, call: Call, rows: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(rows) == self.prompts and torch.equal(rows, torch.arange(self.prompts)):
            return call.args, call.kwargs
        leaves, form = pytree.tree_flatten((call.args, call.kwargs))
        chosen = [
            leaf if axis is None else _rows_of(leaf, axis, rows, self.prompts)
            for leaf, axis in zip(leaves, self.axes[call.index], strict=True)
        ]
        args, kwargs = pytree.tree_unflatten(chosen, form)
        return args, kwargs


def leaves_of(call: Call) -> list[Any]:
    """Everything a block is called with, without the structure around it."""
    return pytree.tree_leaves((call.args, call.kwargs))


def axes_of(ones: Mapping[int, Call], twos: Mapping[int, Call]) -> Axes:
    """The axis of the prompts in every argument: where it is twice as long for twice the prompts."""
    found = {}
    for index, call in ones.items():
        pairs = zip(leaves_of(call), leaves_of(twos[index]), strict=True)
        found[index] = [_grown(one, two) for one, two in pairs]
    return found


def fresh_slot(layer: Any, keep: int, rows: Tensor) -> Any:
    """A copy of a layer of a transformers cache: first `keep` positions, of chosen prompts."""
    slot = copy(layer)
    if slot.get_seq_length() > keep:
        if keep:
            slot.crop(keep - slot.get_seq_length())
        else:
            slot.reset()
    if slot.get_seq_length():
        slot.batch_select_indices(rows.to(slot.keys.device))
    return slot


def _grown(one: Any, two: Any) -> int | None:
    if not isinstance(one, Tensor) or one.ndim != two.ndim:
        return None
    return next((i for i in range(one.ndim) if two.shape[i] == 2 * one.shape[i]), None)


def _rows_of(leaf: Tensor, axis: int, rows: Tensor, prompts: int) -> Tensor:
    """Axis of length prompts x k: the k slices of each row's prompt. Views where one prompt is all."""
    each = leaf.shape[axis] // prompts
    apart = leaf.unflatten(axis, (prompts, each))
    if prompts == 1:
        shape = list(apart.shape)
        shape[axis] = len(rows)
        chosen = apart.expand(shape)
    else:
        chosen = apart.index_select(axis, rows.to(leaf.device))
    found: Tensor = chosen.flatten(axis, axis + 1)
    return found


def _cache_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The cache among a block's arguments; transformers changed its name more than once."""
    given = [*args, *kwargs.values()]
    return next((x for x in given if hasattr(x, "layers") and hasattr(x, "update")), None)


def _slot_number(block: Any, index: int) -> int:
    """Which layer of the cache a block uses: its attention knows."""
    known = (getattr(m, "layer_idx", None) for m in block.modules())
    return next((n for n in known if isinstance(n, int)), index)
