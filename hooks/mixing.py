"""Does a module move information between positions? Asked by changing one position of its input.

This separates mixers (attention, convolutions, recurrences) from MLPs without looking at names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.places import pick


def mixing(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    asked: Collection[tuple[str, int]],
) -> dict[tuple[str, int], bool]:
    """Run the model once more; each asked (path, call) is called again with position 0 negated.

    Returns:
        whether any other position of the module's output changed.
    """
    answers: dict[tuple[str, int], bool] = {}
    busy: list[bool] = []
    calls: Counter[str] = Counter()

    def ask(path: str, module: nn.Module, given: Any, named: Any, output: Any) -> None:
        if busy:
            return
        call, calls[path] = calls[path], calls[path] + 1
        if (path, call) in asked:
            busy.append(True)
            answers[path, call] = _mixes(module, given, named, output)
            busy.clear()

    with ExitStack() as stack:
        for path in dict.fromkeys(path for path, _ in asked):
            handle = model.get_submodule(path).register_forward_hook(
                lambda m, a, k, o, path=path: ask(path, m, a, k, o), with_kwargs=True
            )
            stack.callback(handle.remove)
        model(*args, **kwargs)
    return answers


def _mixes(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> bool:
    changed_args, changed_kwargs = _negated(args, kwargs)
    before = pick(output).detach().clone()
    after = pick(module.forward(*changed_args, **changed_kwargs))
    axis = 0 if before.ndim == 2 else 1  # some models flatten batch and positions
    if before.ndim < 2 or before.shape != after.shape or before.shape[axis] < 2:
        return False
    rest = [x.narrow(axis, 1, x.shape[axis] - 1).float() for x in (before, after)]
    return bool((rest[0] - rest[1]).abs().max() > _noise(before))


def _noise(output: Tensor) -> float:
    return 64 * torch.finfo(output.dtype).eps * float(output.float().abs().max())


def _negated(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The same arguments, with position 0 of the first floating tensor negated."""
    held: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for key, value in held:
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1:
            changed = value.clone()
            changed.select(0 if value.ndim == 2 else 1, 0).neg_()
            new = dict(held) | {key: changed}
            return [new[i] for i in range(len(args))], {k: new[k] for k in kwargs}
    return list(args), dict(kwargs)
