"""One block read from its record: which parts write to the residual stream, and where to tap them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from layerscope.hooks.observe import Event, Observation, Seen
from layerscope.hooks.places import AttentionTap, Difference, Place, Tap
from layerscope.hooks.sums import Step, path_of_sums

Role = Literal["attn", "cross_attn", "mlp", "mixer"]
Asked = tuple[str, int]
"""A call of a module, by path and number."""


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
    normed: bool

    @property
    def plain(self) -> bool:
        return self.step.form == "plain" and not self.normed


@dataclass(eq=False)
class Layout:
    """What was found in one block."""

    event: Event
    entry: Seen
    exit: Seen
    moves: list[Move] | None = None
    """None: no sum of what was seen explains the output."""
    sites: dict[str, Place] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    attn: str | None = None
    mlp: str | None = None
    kind: str = ""
    norms: tuple[str, ...] = ()
    finite: bool = True

    @property
    def parallel(self) -> bool:
        return any(len(move.parts) > 1 for move in self.moves or ())


def moves_of(record: Observation, event: Event, entry: Seen, leave: Seen) -> list[Move] | None:
    """The additions that lead from the block's input to its output, in order."""
    inner = record.during(event)
    seen = [s for e in inner for s in (*e.inputs, *e.outputs)]
    size = record.values[entry.value].numel
    numbers = {s.value for s in seen} | {entry.value, leave.value}
    ordered = sorted(numbers, key=lambda v: record.values[v].first)
    grid = record.values[entry.value].sample.shape
    values = {
        v: record.values[v]
        for v in ordered
        if record.values[v].numel == size and record.values[v].sample.shape == grid
    }
    if not all(value.finite for value in values.values()) or leave.value not in values:
        return None
    if entry.value == leave.value:  # a block that adds nothing, as at some initialisations
        return []
    norms = {e.outputs[0].value: e.inputs[0].value for e in inner if e.is_norm}
    steps = path_of_sums(values, entry.value, leave.value, norms)
    return None if steps is None else _joined(record, inner, steps)


def _joined(record: Observation, inner: list[Event], steps: list[Step]) -> list[Move]:
    """Each addition together with the norms just before it (at the start) or after it."""
    groups: list[list[Step]] = []
    for step in steps:
        full = groups and any(not s.is_norm for s in groups[-1])
        if not groups or (not step.is_norm and full):
            groups.append([])
        groups[-1].append(step)
    moves = []
    for group in groups:
        added = next((s for s in group if not s.is_norm), group[0])
        start, stop = record.values[added.before].first, record.values[group[-1].after].first
        window = [e for e in inner if e.start >= start and (e.end <= stop or e.start <= stop)]
        parts = tuple(_part(record, inner, window, added, v) for v in added.parts)
        normed = any(s.is_norm for s in group)
        moves.append(Move(group[0].before, group[-1].after, added, parts, normed))
    return moves


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


def roles_of(
    moves: list[Move], encoder: int | None, inner: list[Event], mixing: Mapping[Asked, bool]
) -> list[list[Role]]:
    """What each part of each move is: attention, cross attention, another mixer, or an MLP."""
    roles: list[list[Role]] = [
        [_role(part, encoder, inner, mixing) for part in move.parts] for move in moves
    ]
    flat = [role for move in roles for role in move]
    if "attn" in flat or "mixer" not in flat:
        return roles
    # Without attention, the first mixer takes its place; a last one (RWKV's channel mix, which
    # looks one token back) takes the place of the MLP.
    mixers = [(i, j) for i, move in enumerate(roles) for j, r in enumerate(move) if r == "mixer"]
    first, last = mixers[0], mixers[-1]
    roles[first[0]][first[1]] = "attn"
    if last != first and "mlp" not in flat:
        roles[last[0]][last[1]] = "mlp"
    return roles


def _role(
    part: Part, encoder: int | None, inner: list[Event], mixing: Mapping[Asked, bool]
) -> Role:
    if part.attentions:
        calls = part.attentions
        about = [e for e in inner if e in calls or any(e.within(c) for c in calls)]
        crossed = encoder is not None and any(s.value == encoder for e in about for s in e.inputs)
        return "cross_attn" if crossed else "attn"
    return "mixer" if mixing.get((part.source.path, part.source.call)) else "mlp"


def fill(layout: Layout, record: Observation, roles: list[list[Role]], name: str) -> None:
    """Write the sites of a block whose moves are known, in forward order."""
    inner = record.during(layout.event)
    states = {m.after for m in layout.moves or ()}
    count: Counter[str] = Counter()
    here = f"{name}.resid_pre"
    _put(layout, here, tap_of(layout.event, layout.entry), layout.entry.shape)
    moves = layout.moves or []
    for move, kinds in zip(moves, roles, strict=True):
        last = move is moves[-1]
        there = f"{name}.resid_post" if last else _state_name(name, kinds, count)
        written: list[str] = []
        for part, role in zip(move.parts, kinds, strict=True):
            count[role] += 1
            label = role if count[role] == 1 else f"{role}_{count[role]}"
            _fill_part(layout, inner, states, part, role, f"{name}.{label}")
            written.append(f"{name}.{label}_out")
        _fill_written(layout, move, written, here, there)
        if not last:
            _put(layout, there, output_tap(inner, move.after), layout.entry.shape)
        here = there
    _put(layout, f"{name}.resid_post", tap_of(layout.event, layout.exit), layout.exit.shape)
    layout.kind = (" | " if layout.parallel else " + ").join(r for kinds in roles for r in kinds)


def _state_name(name: str, kinds: list[Role], count: Counter[str]) -> str:
    count["state " + ("cross" if "cross_attn" in kinds else "mid")] += 1
    label = "resid_cross" if "cross_attn" in kinds else "resid_mid"
    number = count["state " + label.removeprefix("resid_")]
    return f"{name}.{label}" if number == 1 else f"{name}.{label}_{number}"


def _put(layout: Layout, site: str, place: Place, shape: tuple[int, ...]) -> None:
    layout.sites[site] = place
    layout.shapes[site] = shape


def _fill_part(
    layout: Layout,
    inner: list[Event],
    states: set[int],
    part: Part,
    role: Role,
    label: str,
) -> None:
    """The inner sites of a sublayer (heads or neurons), and the module that is the sublayer."""
    name = label.rpartition(".")[0]
    if role == "attn" and part.attentions and layout.attn is None:
        _fill_heads(layout, part.attentions[0], name)
    if role == "attn" and layout.attn is None:
        core = part.attentions[0] if part.attentions else part.source
        layout.attn = _sublayer(inner, core, states, layout.event).path
    if role == "mlp" and layout.mlp is None:
        layout.mlp = part.source.path
        _fill_neurons(layout, inner, part, name)


def _fill_heads(layout: Layout, attention: Event, name: str) -> None:
    shapes = attention.attention
    b, p, width = (*layout.entry.shape, 0, 0, 0)[:3]
    query = shapes.get("q") or (b, *shapes["pattern"][-3:-2], p, 0)
    heads, size = (query[-3], query[-1]) if len(query) == 4 else (0, 0)
    size = size or (width // heads if heads else 0)
    default = (b, heads, p, size)
    held = {
        "q": shapes.get("q", default),
        "k": shapes.get("k", default),
        "v": shapes.get("v", default),
        "pattern": shapes.get("pattern", (b, heads, p, shapes.get("k", default)[-2])),
        "z": (b, p, heads, shapes.get("v", default)[-1]),
    }
    for part, shape in held.items():
        tap = AttentionTap(attention.path, part, attention.call)  # type: ignore[arg-type]
        _put(layout, f"{name}.{part}", tap, shape)


def _fill_neurons(layout: Layout, inner: list[Event], part: Part, name: str) -> None:
    """Neurons are what enters the matrix whose product is the MLP's output."""
    target = {s.value for s in part.source.outputs} | {part.value}
    for event in inner:
        if event is not part.source and not event.within(part.source):
            continue
        matrix = any(p.ndim == 2 for p in event.module.parameters(recurse=False))
        made = event.outputs[0].value if event.outputs else None
        if event.is_leaf and matrix and made in target and event.inputs:
            shape = event.inputs[0].shape
            _put(layout, f"{name}.mlp_act", Tap(event.path, "in", None, event.call), shape)
            return


def _sublayer(inner: list[Event], core: Event, states: set[int], block: Event) -> Event:
    """The outermost call around `core` that does not itself return a state of the stream."""
    around = [e for e in inner if (core is e or core.within(e)) and e is not block]
    clean = [e for e in around if not any(s.value in states for s in e.outputs)]
    return min(clean, key=lambda e: e.start, default=core)


def _fill_written(layout: Layout, move: Move, written: list[str], here: str, there: str) -> None:
    """What was added to the stream: the tapped module where it is exactly that, else a difference."""
    for part, site in zip(move.parts, written, strict=True):
        if move.plain:
            place: Place = part.tap
        elif len(written) == 1:
            place = Difference(there, (here,))
        else:
            continue
        _put(layout, site, place, layout.entry.shape)


def stream_norms(layout: Layout, inner: list[Event]) -> tuple[str, ...]:
    """Norms of the stream's width that are not inside the sublayers (those belong to heads)."""
    width = layout.entry.shape[-1]
    inside = tuple(path for path in (layout.attn, layout.mlp) if path)
    kept = [
        event.path
        for event in inner
        if event.is_norm
        and event.outputs[0].shape[-1] == width
        and not any(event.inside(path) for path in inside)
    ]
    return tuple(dict.fromkeys(kept))
