"""One block read from its record: which parts write to the residual stream, and where to tap them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from layerscope.hooks.locating.observe import Event, Observation, Seen, Value
from layerscope.hooks.locating.sums import Step, path_of_sums
from layerscope.hooks.places import Place, Tap


@dataclass(frozen=True, eq=False)
class Part:
    """One contribution to the stream within one step."""

    value: int
    source: Event
    """The sublayer that computed it (before any norm or dropout of its own)."""
    tap: Tap
    """The module whose output it is."""
    attentions: tuple[Event, ...]
    """Calls of softmax attention that led to it."""


@dataclass(frozen=True, eq=False)
class Move:
    """The stream goes from one state to the next: an addition with the norms around it."""

    before: int
    after: int
    step: Step
    parts: tuple[Part, ...]
    normed_before: bool
    normed_after: bool

    @property
    def plain(self) -> bool:
        """Whether after = before + parts, with nothing in between."""
        return self.step.form == "plain" and not (self.normed_before or self.normed_after)

    @property
    def carry(self) -> float | None:
        """How much of a change of `before` arrives in `after`, the parts being equal."""
        if self.normed_before or self.normed_after or self.step.form == "featured":
            return None
        return 1.0 if abs(self.step.scale - 1) < 1e-4 else self.step.scale


@dataclass(eq=False)
class Layout:
    """What was found in one block."""

    event: Event
    entry: Seen
    exit: Seen
    moves: list[Move] | None
    """None: no sum of what was seen explains the output."""
    sites: dict[str, Place] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    attn: str | None = None
    mlp: str | None = None
    kind: str = ""
    norms: tuple[str, ...] = ()
    parallel: bool = False
    finite: bool = True

    @property
    def returns(self) -> str:
        """What the block's `forward` gives back: where the stream is in it."""
        return "tensor" if self.exit.item is None else f"tuple, item {self.exit.item}"


def read_block(record: Observation, event: Event, entry: Seen, leave: Seen) -> Layout:
    """What one call of a block added to the stream, as far as its numbers show it."""
    inner = record.during(event)
    values = _stream_values(record, inner, entry, leave)
    layout = Layout(event, entry, leave, None)
    layout.finite = all(value.finite for value in values.values())
    if not layout.finite:
        return layout
    if leave.value == entry.value:  # adds nothing, as at some initialisations
        layout.moves = []
    elif leave.value in values:
        norms = {e.outputs[0].value: e.inputs[0].value for e in inner if e.is_norm}
        steps = path_of_sums(values, entry.value, leave.value, norms)
        layout.moves = None if steps is None else _moves(record, inner, steps)
    return layout


def _stream_values(
    record: Observation, inner: list[Event], entry: Seen, leave: Seen
) -> dict[int, Value]:
    """What was seen inside the block in the stream's own size, in order of appearance."""
    seen = (s for e in inner for s in (*e.inputs, *e.outputs))
    numbers = {s.value for s in seen} | {entry.value, leave.value}
    like = record.values[entry.value]
    ordered = sorted(numbers, key=lambda v: record.values[v].first)
    return {v: record.values[v] for v in ordered if record.values[v].fits(like)}


def _moves(record: Observation, inner: list[Event], steps: list[Step]) -> list[Move]:
    """Each addition together with the norms just before it (at the start) or after it."""
    groups: list[list[Step]] = []
    for step in steps:
        full = groups and any(not s.is_norm for s in groups[-1])
        if not groups or (not step.is_norm and full):
            groups.append([])
        groups[-1].append(step)
    return [_move(record, inner, group) for group in groups]


def _move(record: Observation, inner: list[Event], group: list[Step]) -> Move:
    added = next((s for s in group if not s.is_norm), group[0])
    start, stop = record.values[added.before].first, record.values[group[-1].after].first
    window = [e for e in inner if start <= e.start <= stop]
    parts = tuple(_part(record, inner, window, added, v) for v in added.parts)
    normed = group[0].is_norm, group[-1].is_norm
    return Move(group[0].before, group[-1].after, added, parts, *normed)


def _part(
    record: Observation, inner: list[Event], window: list[Event], step: Step, value: int
) -> Part:
    source = _source(inner, value)
    near = [e for e in inner if e is source or e.within(source)]
    # A sum of one part owns everything that ran in its window; parallel parts own their subtree.
    owned = window if len(step.parts) == 1 else near
    stop = record.values[value].first
    attentions = tuple(e for e in owned if e.attention and e.start <= stop)
    return Part(value, source, output_tap(inner, value), attentions)


def _source(inner: list[Event], value: int) -> Event:
    """The outermost call that computed `value`, looking through norms and dropouts."""
    makers = [e for e in inner if any(s.value == value for s in e.outputs)]
    if not makers:  # seen only on its way in: the receiver is the best that can be named
        return next(e for e in inner if any(s.value == value for s in e.inputs))
    real = [e for e in makers if not any(s.value == value for s in e.inputs)]
    first = min(real or makers, key=lambda e: (e.path.count("."), e.start))
    if first.is_norm and any(s.value == first.inputs[0].value for e in inner for s in e.outputs):
        return _source(inner, first.inputs[0].value)
    return first


def output_tap(events: Collection[Event], value: int) -> Tap:
    """The tap for a value: an output of the shallowest, latest module; else the first input."""
    made = [(e, s) for e in events for s in e.outputs if s.value == value]
    if made:
        event, seen = min(made, key=lambda pair: (pair[0].path.count("."), -pair[0].end))
        return tap_of(event, seen)
    event, seen = next((e, s) for e in events for s in e.inputs if s.value == value)
    return tap_of(event, seen)


def tap_of(event: Event, seen: Seen) -> Tap:
    """A sighting as a place; the first tensor needs no item."""
    first = (event.inputs if seen.side == "in" else event.outputs)[0]
    item = None if seen is first else seen.item
    return Tap(event.path, seen.side, item, event.call)
