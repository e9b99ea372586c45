"""Where a site's tensor is found: a module's output or input, a difference, or inside attention."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any, Literal

from torch import Tensor, nn

Item = int | str | None


@dataclass(frozen=True)
class Tap:
    """A tensor that a module receives (`in`) or returns (`out`)."""

    path: str
    """Module path as in `named_modules()`; "" is the model itself."""
    side: Literal["in", "out"] = "out"
    item: Item = None
    """Tuple index or key of an output, position or keyword of an input; None: the first tensor."""
    call: int = 0
    """Which call of that module object within one forward pass (shared blocks are called again)."""

    def __str__(self) -> str:
        side = ":in" if self.side == "in" else ""
        item = "" if self.item is None else f"[{self.item!r}]"
        call = f" call {self.call}" if self.call else ""
        return f"{self.path or '(model)'}{side}{item}{call}"


@dataclass(frozen=True)
class Difference:
    """One site minus others: what was added between two readings of the residual stream."""

    after: str
    before: tuple[str, ...]
    carry: float | None = None
    """How much of a change of `before` arrives in `after`; None: not known, or not linear."""

    def __str__(self) -> str:
        return " - ".join((self.after, *self.before))


@dataclass(frozen=True)
class AttentionTap:
    """A tensor inside the attention function called by the module at `path`."""

    path: str
    part: Literal["q", "k", "v", "pattern", "z"]
    call: int = 0

    def __str__(self) -> str:
        call = f" call {self.call}" if self.call else ""
        return f"{self.part} of {self.path}{call}"


Place = Tap | Difference | AttentionTap


def items(value: Any) -> Iterator[tuple[Item, Any]]:
    """(item, content) pairs of a module's return value: one pair (None, value) for a bare tensor."""
    if isinstance(value, Mapping):  # also every ModelOutput of transformers
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    else:
        yield None, value


def pick(value: Any, item: Item = None) -> Tensor:
    """The tensor `item` of what a module returned; with None, the value itself or its first tensor.

    Raises:
        TypeError: there is no tensor there; the message lists what the value holds.
    """
    held = dict(items(value))
    if item is None:
        found = next((x for x in held.values() if isinstance(x, Tensor)), None)
        if found is None:  # for instance an LSTM's (output, (hidden, cell)) nested the other way
            nested = (pick(x) for x in held.values() if isinstance(x, (tuple, list, Mapping)) and x)
            found = next(nested, None)
    else:
        found = held.get(item)
    if isinstance(found, Tensor):
        return found
    kinds = ", ".join(f"{key!r}: {type(x).__name__}" for key, x in held.items()) or "nothing"
    raise TypeError(f"no tensor at item {item!r} of this {type(value).__name__}; it holds {kinds}")


def pick_input(args: tuple[Any, ...], kwargs: Mapping[str, Any], item: Item = None) -> Tensor:
    """The tensor `item` among a module's arguments: position, keyword, or None for the first."""
    if item is None:
        return pick([*args, *kwargs.values()])
    return pick(args if isinstance(item, int) else dict(kwargs), item)


def put(value: Any, item: Item, tensor: Tensor) -> Any:
    """What a module returned, with `tensor` where `pick` finds the item. `value` is not changed."""
    if isinstance(value, Tensor):
        return tensor
    held = dict(items(value))
    if item is None:
        item = next((key for key, x in held.items() if isinstance(x, Tensor)), None)
        if item is None:
            item = next(
                key for key, x in held.items() if isinstance(x, (tuple, list, Mapping)) and x
            )
            tensor = put(held[item], None, tensor)
    if isinstance(value, (list, tuple)):
        changed = [tensor if i == item else x for i, x in enumerate(value)]
        return type(value)(*changed) if hasattr(value, "_fields") else type(value)(changed)
    new = copy.copy(value)
    if isinstance(value, Mapping):
        new[item] = tensor
    else:
        setattr(new, str(item), tensor)
    return new


def put_input(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], tap: Tap, tensor: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, with `tensor` where `argument` finds the tap."""
    item = argument_at(module, args, kwargs, tap.item)
    given = dict(kwargs)
    if isinstance(item, str):
        return args, given | {item: tensor}
    return tuple(tensor if i == item else x for i, x in enumerate(args)), given


def argument_at(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], item: Item
) -> int | str:
    """Where in this call the argument `item` is: a model may pass it by position or by keyword."""
    if item is None:
        given = [*enumerate(args), *kwargs.items()]
        return next(key for key, x in given if isinstance(x, Tensor))  # type: ignore[return-value]
    names = list(signature(module.forward).parameters)
    if isinstance(item, int) and item >= len(args) and item < len(names):
        return names[item]
    if isinstance(item, str) and item not in kwargs and item in names:
        return names.index(item)
    return item


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at `path` ("" is the model itself).

    Raises:
        LookupError: there is none; the message names the closest paths.
    """
    try:
        return model.get_submodule(path)
    except AttributeError:
        known = [name for name, _ in model.named_modules(remove_duplicate=False)]
        near = ", ".join(repr(x) for x in get_close_matches(path, known)) or "none"
        raise LookupError(
            f"no module at {path!r} in {type(model).__name__}; closest: {near}"
        ) from None
