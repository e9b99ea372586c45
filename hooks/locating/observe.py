"""One forward pass, watched: which module received and returned which numbers, in which order.

Tensors are remembered by a sample of their elements taken at the moment of the hook, so a later
in-place change cannot rewrite the record. Equal samples get the same number (`Seen.value`), which
turns "is this the same tensor" into an integer comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layerscope.hooks.attending.inline import multi_head_attention
from layerscope.hooks.places import Item, items

ROWS, FEATURES = 32, 256
"""The most that is kept of each tensor: rows (all axes but the last, flattened) and features."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One tensor as a module received or returned it."""

    path: str
    call: int
    side: Literal["in", "out"]
    item: Item
    order: int
    """Ticks since the pass began; a value exists from the first tick at which it was seen."""
    value: int
    """Number of the distinct content: equal for equal tensors of equal size."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def depth(self) -> int:
        return self.path.count(".") + bool(self.path)


@dataclass(eq=False)
class Event:
    """One call of one module."""

    module: nn.Module
    path: str
    call: int
    start: int
    end: int = -1
    inputs: list[Seen] = field(default_factory=list)
    outputs: list[Seen] = field(default_factory=list)
    attention: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of q, k, v and pattern where this module itself called softmax attention."""
    is_norm: bool = False
    is_leaf: bool = False

    def within(self, other: Event) -> bool:
        """Whether this call happened inside `other`."""
        return other.start < self.start and self.end < other.end

    def inside(self, path: str) -> bool:
        return self.path.startswith(f"{path}.") or not path


@dataclass(eq=False)
class Value:
    """Distinct content of a tensor."""

    sample: Tensor
    """[rows, features] of the last axis, float64."""
    numel: int
    dtype: torch.dtype
    first: int
    """Tick at which it was first seen."""
    finite: bool

    def fits(self, other: Value) -> bool:
        """Whether the two can be added: as many elements, the same last axis."""
        return self.numel == other.numel and self.sample.shape == other.sample.shape


@dataclass(eq=False)
class Observation:
    """Everything seen in one pass."""

    events: list[Event] = field(default_factory=list)
    """In the order in which the calls began."""
    values: list[Value] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    result: Any = None
    """What the model returned."""

    def during(self, event: Event) -> list[Event]:
        return [other for other in self.events if other.within(event)]


Inject = Mapping[nn.Module, Callable[[Tensor], Tensor]]
"""Replace what a module returns (after it was recorded): known numbers in, read what comes out."""


def observe(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], inject: Inject
) -> Observation:
    """Run `model(*args, **kwargs)` once and record every tensor that passes between modules."""
    recorder = _Recorder()
    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.enter_context(recorder.listening(module, path))
        for module, change in inject.items():
            handle = module.register_forward_hook(_replacing(change))
            stack.callback(handle.remove)
        stack.enter_context(_AttentionWatch(recorder))
        recorder.found.result = model(*args, **kwargs)
    return recorder.found


def _replacing(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda module, args, output: change(output) if isinstance(output, Tensor) else None


class _Recorder:
    def __init__(self) -> None:
        self.found = Observation()
        self.open: list[Event] = []
        self.tick = 0
        self.calls: Counter[nn.Module] = Counter()
        self.known: dict[tuple[object, ...], int] = {}
        self.paused = False

    def listening(self, module: nn.Module, path: str) -> ExitStack:
        stack = ExitStack()
        before = module.register_forward_pre_hook(
            lambda m, args, kwargs: self.begin(m, path, args, kwargs), with_kwargs=True
        )
        after = module.register_forward_hook(
            lambda m, args, kwargs, output: self.end(args, kwargs, output), with_kwargs=True
        )
        stack.callback(before.remove)
        stack.callback(after.remove)
        return stack

    def begin(self, module: nn.Module, path: str, args: Any, kwargs: Any) -> None:
        if self.paused:
            return
        event = Event(module, path, self.calls[module], self.next_tick())
        event.is_leaf = next(module.children(), None) is None
        self.calls[module] += 1
        self.found.events.append(event)
        self.open.append(event)
        event.inputs = self.record(event, "in", [*enumerate(args), *kwargs.items()])

    def end(self, args: Any, kwargs: Any, output: Any) -> None:
        if self.paused:
            return
        event = self.open.pop()
        event.end = self.next_tick()
        event.outputs = self.record(event, "out", items(output))
        self.paused = True
        event.is_norm = _ignores_scale(event, args, kwargs, output)
        self.paused = False

    def record(self, event: Event, side: Literal["in", "out"], held: Any) -> list[Seen]:
        found = []
        for item, content in held:
            if not isinstance(content, Tensor) or not content.is_floating_point():
                continue
            if content.numel() == 0:
                continue
            order = self.next_tick()
            value = self.value_of(content, order)
            shape = tuple(content.shape)
            seen = Seen(event.path, event.call, side, item, order, value, shape, content.dtype)
            found.append(seen)
        self.found.seen.extend(found)
        return found

    def value_of(self, content: Tensor, order: int) -> int:
        sample = sampled(content)
        finite = bool(sample.isfinite().all())
        # NaN looks like NaN everywhere: there only the memory itself tells tensors apart.
        where = None if finite else content.data_ptr()
        key = (content.numel(), tuple(sample.shape), sample.numpy().tobytes(), where)
        if key not in self.known:
            self.known[key] = len(self.found.values)
            self.found.values.append(Value(sample, content.numel(), content.dtype, order, finite))
        return self.known[key]

    def next_tick(self) -> int:
        self.tick += 1
        return self.tick


def sampled(content: Tensor) -> Tensor:
    """[rows, features] at fixed places, evenly spread: float64, on the CPU, a copy."""
    table = content.detach().reshape(-1, content.shape[-1] if content.ndim else 1)
    for axis, most in enumerate((ROWS, FEATURES)):
        length = table.shape[axis]
        if length > most:
            at = torch.arange(most, device=table.device) * length // most
            table = table.index_select(axis, at)
    return table.to("cpu", torch.float64, copy=True)


def _ignores_scale(event: Event, args: Any, kwargs: Any, output: Any) -> bool:
    """Whether a leaf module is a norm: its answer does not change when its input is doubled."""
    if not event.is_leaf or not isinstance(output, Tensor) or not event.inputs:
        return False
    taken = event.inputs[0]
    if taken.item != 0 or taken.shape != tuple(output.shape) or output.ndim < 2:
        return False
    if any(p.ndim > 1 for p in event.module.parameters(recurse=False)):
        return False
    if event.outputs and event.outputs[0].value == taken.value:
        return False
    given = args[0].detach()
    size = given.float().pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
    given = (given / size).to(given.dtype)
    small, large = (event.module.forward(given * k, *args[1:], **kwargs) for k in (4.0, 8.0))
    spread = (small - small.mean(-1, keepdim=True)).abs().mean()
    gap = (large - small).abs().mean()
    return bool(spread > 0) and bool(gap <= 0.01 * spread)


class _AttentionWatch(TorchFunctionMode):
    """Notes softmax attention on the module that calls it, however it is named."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:  # else it would run unseen
            with self:
                return multi_head_attention(*args, **kwargs)
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if self.recorder.open and not self.recorder.paused:
            if name == "scaled_dot_product_attention":
                given = [*args, *(kwargs[k] for k in ("query", "key", "value") if k in kwargs)]
                shapes = {part: tuple(x.shape) for part, x in zip("qkv", given, strict=False)}
                self.recorder.open[-1].attention.update(shapes)
            elif name == "softmax" and self._over_positions(output):
                self.recorder.open[-1].attention["pattern"] = tuple(output.shape)
        return output

    def _over_positions(self, output: Tensor) -> bool:
        """A softmax over experts or classes is not attention; one over the positions is.

        The last axis may have one entry more than there are positions: an attention sink.
        """
        inner = next((e for e in reversed(self.recorder.open) if e.inputs), None)
        if inner is None or output.ndim < 3:
            return False
        lengths = {
            s.shape[1] for e in self.recorder.open[-2:] for s in e.inputs if len(s.shape) > 1
        }
        return output.shape[-1] in lengths or output.shape[-1] - 1 in lengths


def calls_of(observation: Observation, modules: tuple[nn.Module, ...]) -> Iterator[Event]:
    """Calls of any of these module objects, in the order in which they began."""
    wanted = {id(module) for module in modules}
    return (event for event in observation.events if id(event.module) in wanted)
