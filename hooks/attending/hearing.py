"""Where attention computations are met: the detour through transformers' interface, and open modules.

All parties share one detour, and one mode for each module that runs, so that they meet a computation
one after the other and not nested in each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

from torch import Tensor, nn

from layerscope.hooks.attending import interface
from layerscope.hooks.attending.inline import Overheard
from layerscope.hooks.attending.parties import Party, attend
from layerscope.hooks.listening.passes import ignored
from layerscope.hooks.places import items

_parties: list[Any] = []
_detour = ExitStack()
_lock = threading.Lock()
_local = threading.local()


def take_part(party: Any, undo: ExitStack) -> None:
    """Let `party` (a `Party` with `modules`) meet what its modules compute, until `undo` closes."""
    undo.callback(_close_all, party)
    with _lock:
        if not _parties:
            _detour.enter_context(interface.detour(_through_interface))
        _parties.append(party)
    undo.callback(_leave, party)
    for path, module in party.modules.items():
        opened = module.register_forward_pre_hook(_opener(party, path), with_kwargs=True)
        undo.callback(opened.remove)
        closed = module.register_forward_hook(_closer(party), always_call=True)
        undo.callback(closed.remove)


def _leave(party: Any) -> None:
    with _lock:
        _parties.remove(party)
        if not _parties:
            _detour.close()


def _frames() -> list[Overheard]:
    """The attention modules that run now in this thread, outermost first."""
    if not hasattr(_local, "frames"):
        _local.frames = []
    return _local.frames  # type: ignore[no-any-return]


def _through_interface(module: nn.Module, call: interface.Call) -> Any:
    taking = [(party, party.owner[module]) for party in tuple(_parties) if module in party.owner]
    if not taking or ignored():
        return call.run()
    # Without a frame, the module was run by its forward(), past its hooks.
    frames = _frames()
    with frames[-1].resting() if frames else nullcontext():
        return attend(taking, call.attention())


def _opener(party: Any, path: str) -> Callable[[nn.Module, Any, Any], None]:
    def opened(module: nn.Module, args: Any, kwargs: Any) -> None:
        if ignored():
            return
        party.heard.setdefault(path, set())
        frames = _frames()
        frame = frames[-1] if frames else None
        if frame is None or frame.module is not module or _in(party, frame):
            given = (x for _, x in items([*args, *kwargs.values()]) if isinstance(x, Tensor))
            first = next(given, None)
            frame = Overheard(module, 1 if first is None else len(first))
            frame.__enter__()  # type: ignore[no-untyped-call]
            frames.append(frame)
        frame.parties.append((party, path))
        frame.open += 1

    return opened


def _closer(party: Any) -> Callable[[nn.Module, Any, Any], None]:
    def closed(module: nn.Module, args: Any, output: Any) -> None:
        frames = _frames()
        if frames and frames[-1].module is module and _in(party, frames[-1]):
            frames[-1].open -= 1
            if not frames[-1].open:
                frames.pop().__exit__(None, None, None)

    return closed


def _in(party: Party, frame: Overheard) -> bool:
    return any(other is party for other, _ in frame.parties)


def _close_all(party: Any) -> None:
    # KeyboardInterrupt skips forward hooks; a mode left on the stack would outlive the block.
    frames = _frames()
    while any(_in(party, frame) for frame in frames):
        frames.pop().__exit__(None, None, None)
