"""Parts that add nothing: matrices whose product is all zeros, as planted or freshly initialised.

Their place in the block cannot be seen from numbers, since the stream is the same before and after
them. In a second look they return noise, and then they are found like all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.locating.chain import Chain
from layerscope.hooks.locating.observe import Event, Observation


def silent(record: Observation, chains: Iterable[Chain]) -> dict[nn.Module, str]:
    """Modules of a matrix inside the blocks that returned only zeros of the stream's size."""
    found: dict[nn.Module, str] = {}
    for chain in chains:
        for block, entry in zip(chain.events, chain.entries, strict=True):
            like = record.values[entry.value]
            for event in record.during(block):
                if _is_matrix(event) and len(event.outputs) == 1:
                    value = record.values[event.outputs[0].value]
                    if value.fits(like) and not bool(value.sample.any()):
                        found[event.module] = event.path
    return found


@contextmanager
def sounding(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, each of these modules returns noise of its own, as large as a stream usually is."""
    with ExitStack() as undo:
        for number, module in enumerate(modules):
            handle = module.register_forward_hook(_noise(number))
            undo.callback(handle.remove)
        yield


def _noise(seed: int) -> Any:
    def returned(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(output.shape, generator=generator)
        return drawn.to(output.device, output.dtype)

    return returned


def _is_matrix(event: Event) -> bool:
    own = event.module.parameters(recurse=False)
    return event.is_leaf and any(p.ndim >= 2 for p in own)
