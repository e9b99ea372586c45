"""A further pass over the same input, for what the record of the first one cannot answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.places import Tap, pick, pick_input

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
Asked = tuple[str, int]
"""A call of a module: its path, and which call within the pass."""


def mixing(model: nn.Module, call: Call, asked: Collection[Asked]) -> dict[Asked, bool]:
    """Which of the asked calls move information between positions.

    Each is made again with position 0 of its input negated; it mixes if any other position of its
    output changes. This separates mixers (attention, convolution, recurrence) from MLPs by what
    they do.
    """
    answers: dict[Asked, bool] = {}

    def ask(at: Asked, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        answers[at] = _mixes(module, args, kwargs, output)

    _revisit(model, call, asked, ask)
    return answers


def read(model: nn.Module, call: Call, taps: list[Tap]) -> list[Tensor]:
    """Whole copies of the tensors at `taps`."""
    found: dict[Tap, Tensor] = {}

    def look(at: Asked, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        for tap in taps:
            if (tap.path, tap.call) == at and tap.side == "in":
                found[tap] = pick_input(args, kwargs, tap.item).detach().clone()
            elif (tap.path, tap.call) == at:
                found[tap] = pick(output, tap.item).detach().clone()

    _revisit(model, call, {(tap.path, tap.call) for tap in taps}, look)
    return [found[tap] for tap in taps]


def _revisit(
    model: nn.Module, call: Call, asked: Collection[Asked], see: Callable[..., None]
) -> None:
    """Run the model; `see(at, module, args, kwargs, output)` at each asked call, outermost only."""
    calls: Counter[str] = Counter()
    busy: list[Asked] = []

    def visit(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if busy:  # a call made by `see` itself
            return
        at = (path, calls[path])
        calls[path] += 1
        if at in asked:
            busy.append(at)
            see(at, module, args, kwargs, output)
            busy.clear()

    with ExitStack() as stack:
        for path in dict.fromkeys(path for path, _ in asked):
            handle = model.get_submodule(path).register_forward_hook(
                lambda m, args, kwargs, out, path=path: visit(path, m, args, kwargs, out),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        model(*call[0], **call[1])


def _mixes(module: nn.Module, args: Any, kwargs: Any, output: Any) -> bool:
    new_args, new_kwargs = _negated(args, kwargs)
    before = pick(output).detach().clone()
    after = pick(module.forward(*new_args, **new_kwargs))
    axis = _positions_axis(before)
    if before.ndim < 2 or before.shape != after.shape or before.shape[axis] < 2:
        return False
    rest = (x.narrow(axis, 1, x.shape[axis] - 1).float() for x in (before, after))
    noise = 64 * torch.finfo(before.dtype).eps * float(before.float().abs().max())
    return bool((next(rest) - next(rest)).abs().max() > noise)


def _positions_axis(x: Tensor) -> int:
    return 0 if x.ndim == 2 else 1  # some models flatten batch and positions


def _negated(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The same arguments, with position 0 of the first floating tensor negated.

    Wherever else that tensor is given, it is negated too: query, key and value may be one.
    """
    held: dict[int | str, Any] = dict([*enumerate(args), *kwargs.items()])
    for value in held.values():
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1:
            changed = value.clone()
            changed.select(_positions_axis(value), 0).neg_()
            held = {key: changed if given is value else given for key, given in held.items()}
            break
    return [held[i] for i in range(len(args))], {k: held[k] for k in kwargs}
