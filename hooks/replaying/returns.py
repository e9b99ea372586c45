"""What blocks return beside the residual stream, so that a replay can hand on the same form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from layerscope.hooks.anatomy import Anatomy
from layerscope.hooks.places import Tap, module_at
from layerscope.hooks.replaying.rewire import taps_of


class Returns:
    """Remembers the form of what blocks return, with empty tensors in it.

    Most models throw away what is not the residual stream, such as attention weights; where one
    goes on to use it, empty tensors let that be noticed.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self.found: dict[int, Any] = {}
        self._model, self._taps = model, taps_of(anatomy)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches every pass inside the block."""
        with ExitStack() as undo:
            for index, (path, _, tap) in enumerate(self._taps):
                handle = module_at(self._model, path).register_forward_hook(self._keep(index, tap))
                undo.callback(handle.remove)
            yield

    def _keep(self, index: int, tap: Tap) -> Callable[..., None]:
        def returned(module: nn.Module, args: Any, result: Any) -> None:
            if not isinstance(result, Tensor):
                self.found[index] = pytree.tree_map_only(Tensor, _emptied, result)

        return returned


def _emptied(x: Tensor) -> Tensor:
    return x.detach()[:0] if x.ndim else x.detach()
