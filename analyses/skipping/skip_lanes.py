"""What-ifs of whole blocks on one batch of texts: skipped, repeated, swapped; and their streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.replay import lanes, record
from layerscope.hooks.replaying.recording import passing
from layerscope.hooks.replaying.stage import Stage
from layerscope.hooks.replaying.trust import untrusted

CHANGES = ("skip", "repeat", "swap")
SITES = {"block": "resid_post", "attention": "attn_out", "mlp": "mlp_out"}
See = Callable[[int, Tensor, Tensor, Tensor], None]
"""``see(block, before, after, lane)``: the streams around a block, and the lane of each row (-1:
the unchanged texts, which come first)."""
_WHOLE = 2**62


@dataclass(frozen=True)
class Lane:
    """One what-if, made to every text of a batch."""

    block: int
    """-1: nothing is changed; its effects are the noise floor."""
    start: int
    """The first position that is changed."""
    stop: int
    """One past the last."""
    read: int
    """The first position at which effects are read."""


@dataclass(frozen=True, eq=False)
class Streams:
    """The last residual stream, before the final norm."""

    base: Tensor
    """[texts, positions, d]"""
    lanes: Tensor
    """[lanes, texts, positions, d]"""
    evaluations: float
    """Layer-evaluations: one is one block on all positions of one text."""
    notes: tuple[str, ...] = ()


def all_lanes(blocks: int, length: int, front: int, cuts: Sequence[int]) -> list[Lane]:
    """Each block over all positions from `front` on; then, for each cut, before it alone.

    With a cut, effects are read from the cut on: what earlier tokens pass to later ones.
    """
    whole = [Lane(i, front, length, front) for i in range(blocks)]
    return whole + [Lane(i, front, cut, cut) for cut in cuts for i in range(blocks)]


def run_lanes(
    model: nn.Module, ids: Tensor, wanted: Sequence[Lane], change: str, part: str, see: See
) -> Streams:
    """Run all lanes beside the unchanged texts, in one pass over the blocks.

    Args:
        ids: ``[texts, positions]`` without padding.
        wanted: The what-ifs.
        change: ``skip``; ``repeat`` (the block runs twice); ``swap`` (with the block after it).
        part: For skips: ``block``, ``attention`` or ``mlp``.
        see: Sees the streams around each block.
    """
    if change != "skip":
        return _by_hand(model, ids, wanted, change, see)
    out = lanes(
        model,
        {"input_ids": ids},
        [_change(lane, part) for lane in wanted],
        last=0,
        keep=[-1],
        each_block=see,
        budget=_WHOLE,
    )
    last = next(iter(out.base))
    rows = out[last].unflatten(0, (len(wanted), len(ids)))
    return Streams(out.base[last], rows, out.evaluations, out.notes)


def _change(lane: Lane, part: str) -> dict[int | str, Any]:
    if lane.block < 0:
        return {"blocks.0.resid_post": edits.change(lambda x: x)}
    site = f"blocks.{lane.block}.{SITES[part]}"
    return {site: edits.skip(at=slice(lane.start, lane.stop))}


def obstacle(model: nn.Module, ids: Tensor) -> str:
    """Why the model's blocks cannot be run one by one; "" if they can."""
    return untrusted(passing(model, {"input_ids": ids}))


def require_blocks(model: nn.Module, ids: Tensor, what: str) -> None:
    """Refuse a model whose blocks cannot be run one by one.

    Raises:
        RuntimeError: it is one.
    """
    why = obstacle(model, ids)
    if why:
        raise RuntimeError(
            f"blocks of {type(model).__name__} cannot be run one by one ({why}), so {what} cannot be "
            "tried; layer_skip with change='skip' works for every model"
        )


def _by_hand(
    model: nn.Module, ids: Tensor, wanted: Sequence[Lane], change: str, see: See
) -> Streams:
    """Lanes that no edit expresses: blocks run once more, or in another order."""
    require_blocks(model, ids, f"a {change}")
    run = record(model, {"input_ids": ids})
    played = _Played(wanted, change, len(ids), see)
    with torch.no_grad():
        run.perform(played)
    assert played.last is not None
    base, rows = played.last[: len(ids)], played.last[len(ids) :]
    order = torch.argsort(torch.tensor(played.joined))
    rows = rows.unflatten(0, (len(wanted), len(ids)))[order.to(rows.device)]
    return Streams(base, rows, played.evaluations + run.n_blocks * len(ids), run.notes)


class _Played:
    """The blocks in order, each lane joining where it has left the unchanged texts."""

    def __init__(self, wanted: Sequence[Lane], change: str, texts: int, see: See) -> None:
        self.wanted, self.change, self.texts, self.see = wanted, change, texts, see
        self.joined: list[int] = []
        self.last: Tensor | None = None
        self.evaluations = 0.0

    def __call__(self, stage: Stage) -> None:
        every = torch.arange(self.texts)
        x = earlier = stage.stream
        for index in range(stage.blocks):
            before = x
            x = stage.block(index, before, every.repeat(len(before) // self.texts))
            marks = torch.tensor([-1, *self.joined]).repeat_interleave(self.texts)
            self.see(index, before, x, marks)
            for number, stream in self._new(stage, index, earlier, x):
                x = torch.cat([x, stream])
                self.joined.append(number)
            earlier = before[: self.texts]
        self.last, self.evaluations = x, stage.evaluations

    def _new(
        self, stage: Stage, index: int, earlier: Tensor, after: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """Lanes that leave the unchanged texts after block `index`, with their streams."""
        base = after[: self.texts]
        lag = 1 if self.change == "swap" else 0
        made: Tensor | None = None
        for number, lane in enumerate(self.wanted):
            if lane.block < 0 and index == 0:
                yield number, base
            if lane.block < 0 or lane.block + lag != index:
                continue
            if made is None and self.change == "repeat":
                made = stage.block(index, base)
            elif made is None:
                made = stage.block(index - 1, stage.block(index, earlier))
            yield number, _between(base, made, lane)


def _between(base: Tensor, changed: Tensor | None, lane: Lane) -> Tensor:
    """`changed` at the lane's positions, `base` at all others."""
    assert changed is not None
    stream = base.clone()
    stream[:, lane.start : lane.stop] = changed[:, lane.start : lane.stop]
    return stream


def run_direct(model: nn.Module, ids: Tensor, wanted: Sequence[Lane], see: See) -> float:
    """Feed every block the unchanged stream less what one earlier block added; nothing passes on.

    `see` gets the streams around each block as in `run_lanes`. Returns the layer-evaluations: L for
    the recorded pass, and L(L-1)/2 for each L lanes.
    """
    run = record(model, {"input_ids": ids})
    fed = _Fed(run.residuals, wanted, see)
    with torch.no_grad():
        run.perform(fed)
    return fed.evaluations + run.n_blocks * len(ids)


class _Fed:
    """Each block on recorded streams, less the contribution of one block before it."""

    def __init__(self, states: Tensor, wanted: Sequence[Lane], see: See) -> None:
        self.states, self.wanted, self.see = states, wanted, see
        self.evaluations = 0.0

    def __call__(self, stage: Stage) -> None:
        every = torch.arange(stage.prompts)
        for index in range(stage.blocks):
            numbers = [n for n, lane in enumerate(self.wanted) if 0 <= lane.block < index]
            before = [self._without(index, self.wanted[n]) for n in numbers]
            base = [self.states[index], self.states[index + 1]]
            marks = torch.tensor([-1, *numbers]).repeat_interleave(stage.prompts)
            after = []
            if before:
                after = [stage.block(index, torch.cat(before), every.repeat(len(before)))]
            self.see(index, torch.cat([base[0], *before]), torch.cat([base[1], *after]), marks)
        self.evaluations = stage.evaluations

    def _without(self, index: int, lane: Lane) -> Tensor:
        stream = self.states[index].clone()
        part = slice(lane.start, lane.stop)
        given = self.states[lane.block + 1][:, part] - self.states[lane.block][:, part]
        stream[:, part] -= given
        return stream
