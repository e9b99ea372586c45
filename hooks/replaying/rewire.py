"""A model's own forward pass with its blocks taken out of it.

The model still makes the embeddings, masks, positions and logits, and hands every block its own
arguments; which block runs, when, and on what, is decided by the caller. Stand-ins take the blocks'
places in the module tree, so a block's own hooks run exactly when the block really runs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from layerscope.hooks.anatomy import Anatomy
from layerscope.hooks.listening.watch import argument
from layerscope.hooks.places import Tap, module_at, pick, put, put_input

Arrive = Callable[["Call"], Any]
"""Told that the model calls a block; what it returns is the block's result."""


alone = threading.RLock()
"""Held while a model may be rewired: its tree is one for all threads, and they must not cross."""


class NotReplayable(Exception):
    """Why the blocks of a model cannot be run one by one."""


@dataclass(frozen=True)
class Call:
    """One block, and how the model calls it in this pass."""

    index: int
    block: nn.Module
    entry: Tap
    exit: Tap
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def stream(self) -> Tensor:
        """What the model hands over as the residual stream."""
        return argument(self.block, self.args, self.kwargs, self.entry)

    def run(self, stream: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The block's own result on another stream."""
        args, kwargs = put_input(self.block, args, kwargs, self.entry, stream)
        return self.block(*args, **kwargs)

    def left(self, result: Any) -> Tensor:
        """The residual stream in what the block returned."""
        return pick(result, self.exit.item)

    def answer(self, result: Any, stream: Tensor) -> Any:
        """`result` with another residual stream in it."""
        return put(result, self.exit.item, stream)


class StandIn(nn.Module):
    """Looks like the block it stands for, and passes every call on."""

    _stands_for: nn.Module
    _called: Callable[[Any, Any], Any]

    def __init__(self, block: nn.Module, called: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        # Past __setattr__: registered, the block would be a part of the model twice.
        object.__setattr__(self, "_stands_for", block)
        object.__setattr__(self, "_called", called)
        self.training = block.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._called(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._stands_for, name)


def taps_of(anatomy: Anatomy) -> list[tuple[str, Tap, Tap]]:
    """For each block: its path, where the residual stream enters it, and where it leaves.

    Raises:
        NotReplayable: the stream does not enter and leave through the blocks themselves.
    """
    found = []
    for block in anatomy.blocks:
        entry = anatomy.sites.get(f"blocks.{block.index}.resid_pre")
        left = anatomy.sites.get(f"blocks.{block.index}.resid_post")
        for tap in (entry, left):
            if not isinstance(tap, Tap) or tap.path != block.path:
                raise NotReplayable(f"the residual stream of block {block.index} is at {tap}")
        found.append((block.path, cast(Tap, entry), cast(Tap, left)))
    if not found:
        raise NotReplayable("no stack of blocks was found")
    return found


@contextmanager
def taken_out(model: nn.Module, anatomy: Anatomy, arrive: Arrive) -> Iterator[None]:
    """Inside, the model calls `arrive` in place of each of its blocks."""
    taps = taps_of(anatomy)
    numbers: dict[str, list[int]] = {}
    for index, (path, _, _) in enumerate(taps):
        numbers.setdefault(path, []).append(index)
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    visits: Counter[str] = Counter()

    def called(path: str, block: nn.Module) -> Callable[[Any, Any], Any]:
        def call(args: Any, kwargs: Any) -> Any:
            index = numbers[path][visits[path] % len(numbers[path])]
            visits[path] += 1
            _, entry, left = taps[index]
            return arrive(Call(index, block, entry, left, args, kwargs))

        return call

    try:
        for path in numbers:
            parent, name = module_at(model, path.rpartition(".")[0]), path.rpartition(".")[2]
            block = parent.get_submodule(name)  # itself a stand-in where passes are nested
            replaced.append((parent, name, block))
            real = block._stands_for if isinstance(block, StandIn) else block
            parent._modules[name] = StandIn(real, called(path, real))
        yield
    finally:
        for parent, name, block in replaced:
            parent._modules[name] = block
