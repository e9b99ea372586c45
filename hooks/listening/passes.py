"""Where one forward pass begins, and which call of a module within it this is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_looking: list[None] = []


class ForwardPass:
    """The pass that is running now.

    A pass begins when the outermost module on the way to a wanted site is entered. Usually that is
    the model itself, but a user may as well call `model.model(...)`, and `generate` calls an
    encoder by itself.
    """

    def __init__(
        self,
        model: nn.Module,
        began: Callable[[], None],
        ended: Callable[[Any], None] | None = None,
    ) -> None:
        self.model = model
        self.entered: Counter[nn.Module] = Counter()
        """How often each followed module was entered, over all passes."""
        self.given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        """What the outermost module is called with, while it is told that a pass begins."""
        self._began = began
        self._ended = ended
        self._calls: Counter[Hashable] = Counter()
        self._running: list[tuple[nn.Module, list[Any]]] = []

    def follow(self, modules: Iterable[nn.Module], undo: ExitStack) -> None:
        """Watch `modules` being entered and left, until `undo` closes. The model is always one."""
        for module in {self.model: None, **dict.fromkeys(modules)}:
            before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
            undo.callback(before.remove)
            after = module.register_forward_hook(self._leave, always_call=True)
            undo.callback(after.remove)

    def number(self, key: Hashable) -> int:
        """How often `key` came up before in this pass."""
        self._calls[key] += 1
        return self._calls[key] - 1

    def is_input(self, tensor: Tensor) -> bool:
        """Whether `tensor` is one that the caller handed to the model in this pass."""
        return any(tensor is leaf for leaf in pytree.tree_leaves(self._running[0][1]))

    def batch_and_positions(self, count: int) -> tuple[int, int] | None:
        """The two axes that a module on the way here merged into one of length `count`."""
        for _, inputs in reversed(self._running):
            first = next((x for x in inputs if isinstance(x, Tensor)), None)
            if first is not None and first.ndim > 2 and first.shape[:2].numel() == count:
                return first.shape[0], first.shape[1]
        return None

    def forget(self) -> None:
        """Let go of the caller's tensors."""
        self._running.clear()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if ignored():
            return
        if module is self.model:
            self._running.clear()  # whatever KeyboardInterrupt left behind
        if not self._running:
            self._calls.clear()
            self.given = (args, dict(kwargs))
            self._began()
            self.given = ((), {})
        self._running.append((module, [*args, *kwargs.values()]))
        self.entered[module] += 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._running and self._running[-1][0] is module and not ignored():
            self._running.pop()
            if not self._running and self._ended is not None:
                self._ended(output)


@contextmanager
def looking() -> Iterator[None]:
    """What runs inside, such as the small pass of an anatomy, is not heard and not edited."""
    _looking.append(None)
    try:
        yield
    finally:
        _looking.pop()


def ignored() -> bool:
    """Whether a module that runs now is to be let alone."""
    return bool(_looking) or recomputing()


def recomputing() -> bool:
    """Whether autograd runs backward now: gradient checkpointing then calls modules once more."""
    return torch._C._current_graph_task_id() != -1


def trail(model: nn.Module, place: Any, passing: ForwardPass) -> str:
    """How far the passes so far came on the way to a place that they did not reach."""
    names = place.path.split(".") if place.path else []
    ran = [passing.entered[module] for module in leading_to(model, place.path)]
    if not any(ran):
        return f"{place}: the model was not called inside the with block"
    steps = [
        f"{'.'.join(names[:depth]) or 'the model'} ran {times}x"
        for depth, times in enumerate(ran)
        if times or depth == len(names)
    ]
    return f"{place}: {', '.join(steps[-2:])}"


def leading_to(model: nn.Module, path: str) -> list[nn.Module]:
    """The modules that contain `path`, outermost first, and the module at `path` itself."""
    names = path.split(".") if path else []
    found = [model]
    for name in names:
        found.append(found[-1].get_submodule(name))
    return found
